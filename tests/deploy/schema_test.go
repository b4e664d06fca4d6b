package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"knative.dev/pkg/apis"
	knativeconfig "knative.dev/serving/pkg/apis/config"
	serving "knative.dev/serving/pkg/apis/serving/v1"
)

// known has the types of Kubernetes and of Knative Serving.
var known = func() serializer.CodecFactory {
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, serving.AddToScheme} {
		if err := add(types); err != nil {
			panic(err)
		}
	}
	return serializer.NewCodecFactory(types, serializer.EnableStrict)
}()

// check reads an object into the type of its API, refuses unknown and repeated fields, and runs the
// rules of Knative's webhook.
func check(t *testing.T, object object) {
	t.Helper()
	version := object.text("apiVersion") + "/" + object.text("kind")
	if version == "sources.knative.dev/v1/ContainerSource" {
		checkContainerSource(t, object)
		return
	}
	if make, found := written[version]; found {
		decoder := json.NewDecoder(bytes.NewReader(text(t, object)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(make()); err != nil {
			t.Errorf("%s: %v", object.id(), err)
		}
		return
	}
	typed, _, err := known.UniversalDeserializer().Decode(text(t, object), nil, nil)
	if err != nil {
		t.Errorf("%s: %v", object.id(), err)
		return
	}
	if service, ok := typed.(*serving.Service); ok {
		// As after deploy/cluster/config-defaults.yaml.
		defaults, err := knativeconfig.NewDefaultsConfigFromMap(map[string]string{"max-revision-timeout-seconds": "14400"})
		if err != nil {
			t.Fatal(err)
		}
		settings := &knativeconfig.Config{Defaults: defaults}
		settings.Features, _ = knativeconfig.NewFeaturesConfigFromMap(nil)
		ctx := apis.WithinCreate(knativeconfig.ToContext(context.Background(), settings))
		service.SetDefaults(ctx)
		if err := service.Validate(ctx); err != nil {
			t.Errorf("%s: Knative refuses it: %v", object.id(), err)
		}
	}
	if strategy, _ := object.at("spec", "strategy").(map[string]any); strategy["type"] == "Recreate" && strategy["rollingUpdate"] != nil {
		t.Errorf("%s: Kubernetes refuses rollingUpdate beside Recreate", object.id())
	}
}

// The template of a ContainerSource is that of a pod, so it is checked as a Deployment.
func checkContainerSource(t *testing.T, object object) {
	t.Helper()
	spec := maps.Clone(object["spec"].(map[string]any))
	sink := map[string]any{
		"apiVersion": "sources.knative.dev/v1", "kind": "SinkBinding", "metadata": object["metadata"],
		"spec": map[string]any{"sink": spec["sink"]},
	}
	check(t, sink)
	delete(spec, "sink")
	spec["selector"] = map[string]any{"matchLabels": object.at("spec", "template", "metadata", "labels")}
	check(t, map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object["metadata"], "spec": spec})
}

func TestTheCheckRefusesAMisspeltField(t *testing.T) {
	for _, line := range []string{
		"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {replica: 2}}",
		"{apiVersion: sources.knative.dev/v1, kind: SinkBinding, metadata: {name: a}, spec: {sinks: {}}}",
		"{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: a}, spec: {template: {spec: {containers: [{image: a, volumes: []}]}}}}",
		"{apiVersion: example.com/v1, kind: Unknown, metadata: {name: a}}",
	} {
		inner := &testing.T{}
		check(inner, parse(t, line)[0])
		if !inner.Failed() {
			t.Errorf("%s passes", line)
		}
	}
}

func text(t *testing.T, object object) []byte {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.TrimSpace(string(text)))
}
