package deploy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/yaml"
)

// values have the chart render the objects of the overlay with the same name.
var values = map[string]string{
	"rabbitmq":        "",
	"kafka":           "",
	"kafka-tls":       "extraSecrets: [{name: my-cluster-cluster-ca-cert, items: [{key: ca.crt, path: kafka-ca.crt}]}, {name: longhaul-user, items: [{key: user.crt, path: kafka-user.crt}, {key: user.key, path: kafka-user.key}]}]",
	"kafka-static":    "kind: StatefulSet",
	"sinkbinding":     "sinkBinding: {enabled: true}",
	"containersource": "kind: ContainerSource",
	"deployment-only": "worker: {kind: Deployment}",
	"recreate":        "strategy: Recreate",
	"keda":            "keda: {enabled: true}\nworker: {maxScale: 50}",
	"karpenter":       "podAnnotations: {karpenter.sh/do-not-disrupt: 'true'}\nworker: {annotations: {karpenter.sh/do-not-disrupt: 'true'}}",
	"ingress-host":    "",
	"alerts":          "podMonitor: {enabled: true}",
}

func TestTheChartRendersTheObjectsOfEachOverlay(t *testing.T) {
	for _, name := range folders(t, "overlays") {
		t.Run(name, func(t *testing.T) {
			given, found := values[name]
			if !found {
				t.Fatal("add values of the chart for this overlay")
			}
			want := build(t, overlay(name))
			objects := render(t, "longhaul", merged(t, given, configOf(want)))
			for _, object := range objects {
				check(t, object)
			}
			compare(t, normalised(t, want), normalised(t, objects))
		})
	}
}

func TestTwoReleasesShareNoName(t *testing.T) {
	given := merged(t, "", "pipelines: []")
	first := map[string]bool{}
	for _, object := range render(t, "films", given) {
		first[object.id()] = true
	}
	given["worker"] = map[string]any{"name": "other", "create": true}
	for _, object := range render(t, "books", given) {
		if first[object.id()] {
			t.Errorf("%s is in both releases", object.id())
		}
	}
}

func TestTheChartRefusesWrongValues(t *testing.T) {
	for text, reason := range map[string]string{
		"{}":                                "config",
		"config: a\nreplica: 3":             "replica",
		"config: a\nstrategy: Rolling":      "strategy",
		"config: a\nkind: Job":              "kind",
		"config: a\nreplicas: two":          "replicas",
		"config: a\nimage: {digest: 12345}": "digest",
	} {
		var given map[string]any
		if err := yaml.Unmarshal([]byte(text), &given); err != nil {
			t.Fatal(err)
		}
		_, err := try(t, "longhaul", given)
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func merged(t *testing.T, text, config string) map[string]any {
	t.Helper()
	given := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &given); err != nil {
		t.Fatal(err)
	}
	worker, _ := given["worker"].(map[string]any)
	if worker == nil {
		worker = map[string]any{}
	}
	worker["create"], given["worker"] = true, worker
	given["config"] = config
	return given
}

func render(t *testing.T, release string, given map[string]any) []object {
	t.Helper()
	objects, err := try(t, release, given)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func try(t *testing.T, release string, given map[string]any) ([]object, error) {
	t.Helper()
	chart, err := loader.Load(filepath.Join(root, "chart"))
	if err != nil {
		t.Fatal(err)
	}
	options := chartutil.ReleaseOptions{Name: release, Namespace: "default", IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, given, options, chartutil.DefaultCapabilities.Copy())
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	var objects []object
	for name, text := range files {
		if strings.HasSuffix(name, ".yaml") {
			objects = append(objects, parse(t, text)...)
		}
	}
	return objects, nil
}

func configOf(objects []object) string {
	for _, object := range objects {
		if object.text("kind") == "ConfigMap" {
			return object.text("data", "longhaul.yaml")
		}
	}
	return ""
}

var hash = regexp.MustCompile(`longhaul-[0-9a-z]{10}$`)

// normalised leaves out the differences that the two tools make: labels of a release, the hash in
// the name of the ConfigMap against the checksum annotation, and the default pull policy. It also
// leaves out rules, which only the overlay `alerts` has.
func normalised(t *testing.T, objects []object) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, object := range objects {
		metadata := object["metadata"].(map[string]any)
		if labels, ok := metadata["labels"].(map[string]any); ok {
			for _, key := range []string{"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"} {
				delete(labels, key)
			}
		}
		kind := object.text("kind")
		if kind == "ConfigMap" {
			delete(metadata, "labels")
		}
		if kind == "PrometheusRule" {
			continue
		}
		if annotations, ok := object.at("spec", "template", "metadata", "annotations").(map[string]any); ok {
			delete(annotations, "checksum/config")
		}
		if containers, ok := object.at("spec", "template", "spec", "containers").([]any); ok {
			delete(containers[0].(map[string]any), "imagePullPolicy")
		}
		if volumes, ok := object.at("spec", "template", "spec", "volumes").([]any); ok {
			projected := volumes[0].(map[string]any)["projected"].(map[string]any)
			configMap := projected["sources"].([]any)[0].(map[string]any)["configMap"].(map[string]any)
			configMap["name"] = hash.ReplaceAllString(configMap["name"].(string), "longhaul")
		}
		metadata["name"] = hash.ReplaceAllString(metadata["name"].(string), "longhaul")
		text, err := json.MarshalIndent(object, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		texts[object.id()] = string(text)
	}
	return texts
}

func compare(t *testing.T, want, got map[string]string) {
	t.Helper()
	for id, text := range want {
		if got[id] == "" {
			t.Errorf("the chart does not render %s", id)
		} else if got[id] != text {
			t.Errorf("%s differs:\n%s", id, difference(text, got[id]))
		}
	}
	for id := range got {
		if want[id] == "" {
			t.Errorf("only the chart renders %s", id)
		}
	}
}

// difference returns the lines that only one of the texts has.
func difference(want, got string) string {
	var lines []string
	missing := func(mark, from, in string) {
		have := map[string]bool{}
		for _, line := range strings.Split(in, "\n") {
			have[strings.TrimRight(line, ",")] = true
		}
		for _, line := range strings.Split(from, "\n") {
			if !have[strings.TrimRight(line, ",")] {
				lines = append(lines, mark+line)
			}
		}
	}
	missing("kustomize ", want, got)
	missing("chart     ", got, want)
	return strings.Join(lines, "\n")
}

func TestChartAndProgramHaveOneVersion(t *testing.T) {
	chart, err := loader.Load(filepath.Join(root, "chart"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(filepath.Join(root, "Cargo.toml"))
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^version = "(.*)"`).FindStringSubmatch(string(manifest))[1]
	if chart.Metadata.Version != version || chart.Metadata.AppVersion != version {
		t.Errorf("Cargo.toml %s, chart %s, appVersion %s", version, chart.Metadata.Version, chart.Metadata.AppVersion)
	}
}
