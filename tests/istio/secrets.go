package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// The authority of a mesh.
type authority struct {
	certificate *x509.Certificate
	key         any
	pem         []byte
}

func readAuthority(directory string) (*authority, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(directory, "ca.pem"), filepath.Join(directory, "ca-key.pem"))
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(directory, "ca.pem"))
	if err != nil {
		return nil, err
	}
	return &authority{certificate: pair.Leaf, key: pair.PrivateKey, pem: text}, nil
}

// issue makes a certificate for the identity of a workload, or for host names.
func (a *authority) issue(identity *url.URL, hosts ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:     hosts,
	}
	if identity != nil {
		template.URIs = []*url.URL{identity}
	}
	made, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{made}, PrivateKey: key}, nil
}

// secretServer serves what Istio's agent in a pod serves: `default`, the certificate of the workload, and `ROOTCA`.
type secretServer struct {
	secretservice.UnimplementedSecretDiscoveryServiceServer
	authority *authority
}

func (s *secretServer) StreamSecrets(stream secretservice.SecretDiscoveryService_StreamSecretsServer) error {
	var node *core.Node
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		if request.Node != nil {
			node = request.Node
		}
		if request.ResponseNonce != "" {
			if request.ErrorDetail != nil {
				return errors.New(request.ErrorDetail.Message)
			}
			continue
		}
		resources := make([]*anypb.Any, 0, len(request.ResourceNames))
		for _, name := range request.ResourceNames {
			secret, err := s.secret(name, node)
			if err != nil {
				return err
			}
			resource, err := anypb.New(secret)
			if err != nil {
				return err
			}
			resources = append(resources, resource)
		}
		response := &discovery.DiscoveryResponse{
			VersionInfo: "1", Nonce: "1", TypeUrl: request.TypeUrl, Resources: resources,
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

func (s *secretServer) secret(name string, node *core.Node) (*tlsv3.Secret, error) {
	if name == "ROOTCA" {
		return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(s.authority.pem)},
		}}, nil
	}
	if name != "default" {
		return nil, fmt.Errorf("there is no secret %q", name)
	}
	fields := node.GetMetadata().GetFields()
	namespace, account := fields["NAMESPACE"].GetStringValue(), fields["SERVICE_ACCOUNT"].GetStringValue()
	identity := &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: fmt.Sprintf("/ns/%s/sa/%s", namespace, account)}
	made, err := s.authority.issue(identity)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		return nil, err
	}
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inline(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]})),
		PrivateKey:       inline(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	}}}, nil
}

func inline(value []byte) *core.DataSource {
	return &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: value}}
}
