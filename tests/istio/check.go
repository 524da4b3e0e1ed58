package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/analysis/analyzers"
	"istio.io/istio/pkg/config/analysis/local"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/resource"
	_ "istio.io/istio/pkg/config/validation/envoyfilter" // Registers the validation of EnvoyFilters.
	"istio.io/istio/pkg/config/xds"
	"istio.io/istio/pkg/util/protomarshal"
	"sigs.k8s.io/yaml"
)

// A patch of an EnvoyFilter as istiod understands it: without the fields that it does not know.
type patch struct {
	ApplyTo   string          `json:"applyTo"`
	Operation string          `json:"operation"`
	Value     json.RawMessage `json:"value"`
}

// The result of the admission of one document.
type admission struct {
	File     string   `json:"file"`
	Kind     string   `json:"kind"`
	Name     string   `json:"name"`
	Errors   []string `json:"errors"`
	Warnings []string `json:"warnings"`
	Patches  []patch  `json:"patches"`
}

// validate prints what Istio's admission says of each document that is Istio's, and which fields istiod would drop.
func validate(files []string) error {
	documents, err := read(files)
	if err != nil {
		return err
	}
	results := []admission{}
	for _, each := range documents {
		if !each.isOfIstio() {
			continue
		}
		found, err := admit(each)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", each.file, each.Kind, err)
		}
		results = append(results, found)
	}
	return write(results)
}

func admit(each document) (admission, error) {
	var object crd.IstioKind
	if err := yaml.Unmarshal([]byte(each.text), &object); err != nil {
		return admission{}, err
	}
	result := admission{
		File: each.file, Kind: each.Kind, Name: object.Name, Errors: []string{}, Warnings: []string{}, Patches: []patch{},
	}
	kind := object.GroupVersionKind()
	schema, exists := collections.PilotGatewayAPI().FindByGroupVersionAliasesKind(resource.FromKubernetesGVK(&kind))
	if !exists {
		result.Errors = append(result.Errors, "istiod does not know this kind")
		return result, nil
	}
	converted, err := crd.ConvertObject(schema, &object, "cluster.local")
	if err != nil {
		result.Errors = append(result.Errors, err.Error())
		return result, nil
	}
	warning, err := schema.ValidateConfig(*converted)
	if warning != nil {
		result.Warnings = append(result.Warnings, warning.Error())
	}
	if err != nil {
		result.Errors = append(result.Errors, err.Error())
	}
	empty, err := schema.NewInstance()
	if err != nil {
		return admission{}, err
	}
	if message, ok := empty.(proto.Message); ok {
		spec, err := json.Marshal(object.Spec)
		if err != nil {
			return admission{}, err
		}
		if err := protomarshal.ApplyJSONStrict(string(spec), message); err != nil {
			result.Errors = append(result.Errors, "a field would be dropped: "+err.Error())
		}
	}
	if filter, ok := converted.Spec.(*networking.EnvoyFilter); ok {
		return result, patches(filter, &result)
	}
	return result, nil
}

func patches(filter *networking.EnvoyFilter, result *admission) error {
	for _, each := range filter.ConfigPatches {
		// Strictly: istiod itself ignores fields that its types do not have.
		built, err := xds.BuildXDSObjectFromStruct(each.ApplyTo, each.Patch.Value, true)
		if err != nil {
			result.Errors = append(result.Errors, each.ApplyTo.String()+": a field would be dropped: "+err.Error())
			continue
		}
		value, err := protomarshal.MarshalProtoNames(built)
		if err != nil {
			return err
		}
		result.Patches = append(result.Patches, patch{each.ApplyTo.String(), each.Patch.Operation.String(), value})
	}
	return nil
}

// analyze prints the messages of `istioctl analyze` for files.
func analyze(files []string) error {
	documents, err := read(files)
	if err != nil {
		return err
	}
	analyzer := local.NewSourceAnalyzer(analyzers.AllCombined(), "", "istio-system", func(config.GroupVersionKind) {})
	// A source replaces the one with its name.
	sources := []local.ReaderSource{{Name: "manifests", Reader: strings.NewReader(join(documents))}}
	// With Namespaces, Pods and the like, as from a cluster.
	if err := analyzer.AddTestReaderKubeSource(sources); err != nil {
		return err
	}
	stop := make(chan struct{})
	defer close(stop)
	result, err := analyzer.Analyze(stop)
	if err != nil {
		return err
	}
	messages := []string{}
	for _, each := range result.Messages {
		messages = append(messages, each.String())
	}
	return write(map[string]any{"analyzers": result.ExecutedAnalyzers, "messages": messages})
}
