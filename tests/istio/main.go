// Command istiod runs code of Istio's control plane without Kubernetes: it validates and analyzes manifests, and serves
// the configuration that istiod makes of them.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/test"
)

const usage = "usage: istiod validate FILE… | analyze FILE… | serve DIRECTORY FILE…"

func main() {
	// Standard output is for results.
	options := log.DefaultOptions()
	options.OutputPaths = []string{"stderr"}
	if err := log.Configure(options); err != nil {
		fail(err)
	}
	if len(os.Args) < 3 {
		fail(fmt.Errorf(usage))
	}
	var err error
	switch command, arguments := os.Args[1], os.Args[2:]; command {
	case "validate":
		err = validate(arguments)
	case "analyze":
		err = analyze(arguments)
	case "serve":
		err = test.Wrap(func(t test.Failer) { serve(t, arguments[0], arguments[1:]) })
	default:
		err = fmt.Errorf(usage)
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// write prints one line of JSON.
func write(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}
