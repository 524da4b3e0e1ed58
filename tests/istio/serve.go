package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"

	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/security"
	"istio.io/istio/pkg/test"
	"istio.io/istio/security/pkg/server/ca/authenticate"
)

// serve runs istiod with these manifests until its standard input ends. `directory` has ca.pem and ca-key.pem, the
// authority of the mesh, and may have mesh.yaml, its configuration. It prints the addresses for proxies: `xds` with
// mutual TLS, as istiod serves it, and `sds`, the certificates of proxies, which Istio's agent in the pod serves.
func serve(t test.Failer, directory string, files []string) {
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	documents, err := read(files)
	check(err)
	var ours, kubernetes []document
	for _, each := range documents {
		if each.isOfIstio() {
			ours = append(ours, each)
		}
		if !each.isOfIstio() || each.isOfAmbient() {
			kubernetes = append(kubernetes, each)
		}
	}
	options := xds.FakeOptions{
		ConfigString:               join(ours),
		KubernetesObjectString:     join(kubernetes),
		DisableSecretAuthorization: true,
	}
	if text, err := os.ReadFile(filepath.Join(directory, "mesh.yaml")); err == nil {
		options.MeshConfig, err = mesh.ApplyMeshConfigDefaults(string(text))
		check(err)
	}
	authority, err := readAuthority(directory)
	check(err)
	fake := xds.NewFakeDiscoveryServer(t, options)
	fake.Discovery.Authenticators = []security.Authenticator{&authenticate.ClientCertAuthenticator{}}

	certificate, err := authority.issue(nil, "istiod.istio-system.svc")
	check(err)
	roots := x509.NewCertPool()
	roots.AddCert(authority.certificate)
	discovery := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    roots,
		MinVersion:   tls.VersionTLS12,
	})))
	fake.Discovery.Register(discovery)
	secrets := grpc.NewServer()
	secretservice.RegisterSecretDiscoveryServiceServer(secrets, &secretServer{authority: authority})

	addresses := map[string]int{}
	for name, server := range map[string]*grpc.Server{"xds": discovery, "sds": secrets} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		check(err)
		addresses[name] = listener.Addr().(*net.TCPAddr).Port
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(server.Stop)
	}
	check(write(addresses))
	_, err = io.Copy(io.Discard, os.Stdin)
	check(err)
}
