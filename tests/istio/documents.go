package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"gopkg.in/yaml.v3"
)

// A document of a manifest.
type document struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`

	file string
	text string
}

// isOfIstio tells whether istiod reads the document as its own configuration.
func (d document) isOfIstio() bool {
	group, _, _ := strings.Cut(d.APIVersion, "/")
	return strings.HasSuffix(group, ".istio.io")
}

// isOfAmbient tells whether the index of ambient workloads reads the document, which reads it from Kubernetes.
func (d document) isOfAmbient() bool {
	switch d.Kind {
	case "AuthorizationPolicy", "PeerAuthentication", "ServiceEntry", "WorkloadEntry":
		return true
	}
	return false
}

// read returns the documents of files that have a kind.
func read(files []string) ([]document, error) {
	var found []document
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		decoder := yaml.NewDecoder(bytes.NewReader(content))
		for {
			var node yaml.Node
			err := decoder.Decode(&node)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			each := document{file: file}
			if err := node.Decode(&each); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if each.Kind == "" {
				continue
			}
			text, err := yaml.Marshal(&node)
			if err != nil {
				return nil, err
			}
			each.text = string(text)
			found = append(found, each)
		}
	}
	return found, nil
}

// join makes one stream of documents.
func join(documents []document) string {
	texts := make([]string, 0, len(documents))
	for _, each := range documents {
		texts = append(texts, each.text)
	}
	return strings.Join(texts, "\n---\n")
}
