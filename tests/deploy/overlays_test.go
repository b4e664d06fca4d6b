package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestEveryOverlayFitsItsSchemas(t *testing.T) {
	for _, name := range folders(t, "overlays") {
		t.Run(name, func(t *testing.T) {
			objects := build(t, overlay(name))
			for _, object := range objects {
				check(t, object)
				if object.text("kind") == "Secret" {
					t.Errorf("%s is in the tree: a Secret belongs to the cluster", object.id())
				}
			}
			if len(objects) < 7 {
				t.Errorf("only %d objects", len(objects))
			}
		})
	}
}

func TestEveryComponentFitsTheOverlays(t *testing.T) {
	for _, name := range folders(t, "components") {
		for _, base := range []string{"rabbitmq", "kafka"} {
			t.Run(name+" on "+base, func(t *testing.T) {
				lines := "resources: [DEPLOY/overlays/%s]\ncomponents: [DEPLOY/components/%s]\n"
				for _, object := range compose(t, fmt.Sprintf(lines, base, name)) {
					check(t, object)
				}
			})
		}
	}
}

// Static membership makes a StatefulSet of the bridge. A component must change its pods too.
func TestComponentsForPodsReachAStatefulSet(t *testing.T) {
	for name, expected := range map[string]struct {
		path  []string
		value any
	}{
		"guard":     {[]string{"spec", "template", "spec", "automountServiceAccountToken"}, true},
		"karpenter": {[]string{"spec", "template", "metadata", "annotations", "karpenter.sh/do-not-disrupt"}, "true"},
	} {
		t.Run(name, func(t *testing.T) {
			found := 0
			lines := "resources: [DEPLOY/overlays/kafka-static]\ncomponents: [DEPLOY/components/" + name + "]\n"
			for _, object := range compose(t, lines) {
				check(t, object)
				if object.text("kind") == "StatefulSet" && object.at(expected.path...) == expected.value {
					found++
				}
			}
			if found != 1 {
				t.Errorf("%d StatefulSets with %s", found, strings.Join(expected.path, "."))
			}
		})
	}
}

func TestBrokerObjectsFitTheirSchemas(t *testing.T) {
	for _, file := range []string{"rabbitmq/topology.yaml", "strimzi/kafka.yaml"} {
		text, err := os.ReadFile(filepath.Join(root, "deploy/brokers", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range parse(t, string(text)) {
			check(t, object)
		}
	}
}

// The patches are not whole objects, so each is merged into the smallest one that it can patch.
func TestClusterPatchesFitTheirObjects(t *testing.T) {
	pod := "selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}"
	deployment := "{apiVersion: apps/v1, kind: Deployment, metadata: {name: n}, spec: {" + pod + "}}"
	configMap := "{apiVersion: v1, kind: ConfigMap, metadata: {name: n}}"
	scaler := "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: n}, spec: {scaleTargetRef: {kind: Deployment, name: n}}}"
	bases := map[string]string{
		"config-defaults.yaml": configMap, "config-autoscaler.yaml": configMap,
		"activator.yaml": deployment, "activator-hpa.yaml": scaler, "kourier.yaml": deployment,
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy/cluster/*.yaml"))
	if err != nil || len(files) != len(bases) {
		t.Fatalf("patches %v for %d bases: %v", files, len(bases), err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "deploy/cluster/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		folder := t.TempDir()
		base := bases[filepath.Base(file)]
		var head map[string]any
		if err := yaml.Unmarshal([]byte(base), &head); err != nil {
			t.Fatal(file, err)
		}
		patch := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: n}\n%s", head["apiVersion"], head["kind"], text)
		for name, content := range map[string]string{"base.yaml": base, "patch.yaml": patch} {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, object := range build(t, write(t, folder, "resources: [base.yaml]\npatches: [{path: patch.yaml}]\n")) {
			check(t, object)
		}
		if !strings.Contains(string(readme), "--patch-file deploy/cluster/"+filepath.Base(file)) {
			t.Errorf("README.md has no command for %s", file)
		}
	}
}

// Every name must follow namePrefix and nameSuffix, wherever it stands.
func TestNamesFollowPrefixAndSuffix(t *testing.T) {
	for _, name := range folders(t, "overlays") {
		t.Run(name, func(t *testing.T) {
			names := map[string]bool{}
			for _, object := range build(t, overlay(name)) {
				names[object.text("metadata", "name")] = true
			}
			lines := "namePrefix: team-a-\nnameSuffix: -x\nresources: [DEPLOY/overlays/" + name + "]\n"
			for _, object := range compose(t, lines) {
				walk(map[string]any(object), nil, func(path []string, text string) {
					if names[text] && !staysTheSame(path) {
						t.Errorf("%s: %s is still %q", object.id(), strings.Join(path, "."), text)
					}
				})
			}
		})
	}
}

func staysTheSame(path []string) bool {
	last, place := path[len(path)-1], strings.Join(path, ".")
	isLabel := strings.HasPrefix(last, "app.kubernetes.io/") && last != "app.kubernetes.io/instance"
	isLabel = isLabel || strings.HasSuffix(place, "matchExpressions.values")
	isContainer := strings.HasSuffix(place, "containers.name")
	// The Secret is not in the tree.
	isSecret := strings.HasSuffix(place, "secret.name") || strings.HasSuffix(place, "secretTargetRef.name")
	return isLabel || isContainer || isSecret || last == "queueName"
}

func TestASecretOfTheTreeFollowsThePrefix(t *testing.T) {
	lines := "namePrefix: team-a-\nresources: [DEPLOY/overlays/keda]\ncomponents: [DEPLOY/components/external-secret]\n"
	folder := t.TempDir()
	write(t, filepath.Join(folder, "inner"), strings.Replace(lines, "namePrefix: team-a-\n", "", 1))
	found := 0
	for _, object := range build(t, write(t, filepath.Join(folder, "outer"), "namePrefix: team-a-\nresources: [../inner]\n")) {
		walk(map[string]any(object), nil, func(path []string, text string) {
			place := strings.Join(path, ".")
			if strings.HasSuffix(place, "secret.name") || strings.HasSuffix(place, "secretTargetRef.name") {
				found++
				if text != "team-a-longhaul" {
					t.Errorf("%s: %s is %q", object.id(), place, text)
				}
			}
		})
	}
	if found != 2 {
		t.Errorf("%d references to the Secret", found)
	}
}

// Selectors of one bridge must not select the pods of another one in the same namespace.
func TestTwoBridgesInOneNamespaceStayApart(t *testing.T) {
	for _, name := range folders(t, "overlays") {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			for _, team := range []string{"a", "b"} {
				write(t, filepath.Join(folder, team), "namePrefix: team-"+team+"-\nresources: [DEPLOY/overlays/"+name+"]\n")
			}
			objects := build(t, write(t, filepath.Join(folder, "both"), "namespace: work\nresources: [../a, ../b]\n"))
			pods := map[string]map[string]any{}
			for _, object := range objects {
				if labels, ok := object.at("spec", "template", "metadata", "labels").(map[string]any); ok && object.group() != "serving.knative.dev" {
					pods[object.text("metadata", "name")] = labels
				}
			}
			if len(pods) < 2 {
				t.Fatalf("pods of %v", pods)
			}
			for _, object := range objects {
				for _, selector := range selectors(object) {
					chosen := map[string]bool{}
					for pod, labels := range pods {
						if matches(selector, labels) {
							chosen[pod[:len("team-a")]] = true
						}
					}
					if own := object.text("metadata", "name")[:len("team-a")]; len(chosen) != 1 || !chosen[own] {
						t.Errorf("%s: %v selects the pods of %v", object.id(), selector, chosen)
					}
				}
			}
		})
	}
}

// selectors returns the label selectors with which an object chooses its own pods.
func selectors(object object) []map[string]any {
	var found []map[string]any
	add := func(value any) {
		if labels, ok := value.(map[string]any); ok {
			found = append(found, labels)
		}
	}
	switch object.text("kind") {
	case "Service":
		add(object.at("spec", "selector"))
	case "NetworkPolicy":
		add(object.at("spec", "podSelector", "matchLabels"))
	default:
		add(object.at("spec", "selector", "matchLabels"))
	}
	return found
}

func matches(selector, labels map[string]any) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

// walk calls visit with the path and the value of each text. An index of a list is not in the path.
func walk(value any, path []string, visit func([]string, string)) {
	switch value := value.(type) {
	case string:
		visit(path, value)
	case []any:
		for _, item := range value {
			walk(item, path, visit)
		}
	case map[string]any:
		for key, item := range value {
			walk(item, append(append([]string{}, path...), key), visit)
		}
	}
}
