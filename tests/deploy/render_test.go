// Package deploy checks the manifests of deploy/ and of chart/: every overlay and the chart are
// rendered with kustomize's and Helm's own code, and each object is read into the Go types of its
// API without unknown fields.
//
//	cd tests/deploy && go test ./...
package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const root = "../.."

// object is a rendered manifest.
type object map[string]any

func (o object) text(keys ...string) string {
	text, _ := o.at(keys...).(string)
	return text
}

func (o object) at(keys ...string) any {
	var value any = map[string]any(o)
	for _, key := range keys {
		inner, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = inner[key]
	}
	return value
}

func (o object) group() string {
	group, _, found := strings.Cut(o.text("apiVersion"), "/")
	if !found {
		return ""
	}
	return group
}

// id names an object within its namespace.
func (o object) id() string {
	return fmt.Sprintf("%s/%s/%s", o.group(), o.text("kind"), o.text("metadata", "name"))
}

// build renders a folder with a kustomization.
func build(t *testing.T, folder string) []object {
	t.Helper()
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatalf("%s: %v", folder, err)
	}
	text, err := rendered.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(text))
}

// compose renders a kustomization of the given lines. DEPLOY in them stands for the folder deploy.
func compose(t *testing.T, lines string) []object {
	t.Helper()
	folder, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return build(t, write(t, folder, lines))
}

// write makes a folder with a kustomization of the given lines, and returns the folder.
func write(t *testing.T, folder, lines string) string {
	t.Helper()
	deploy, err := filepath.Abs(filepath.Join(root, "deploy"))
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(folder, deploy)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(lines, "DEPLOY", relative)
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return folder
}

// parse reads the documents of a text, sorted by name.
func parse(t *testing.T, text string) []object {
	t.Helper()
	var objects []object
	for _, document := range strings.Split("\n"+text, "\n---") {
		var content map[string]any
		if err := yaml.UnmarshalStrict([]byte(document), &content); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if len(content) > 0 {
			objects = append(objects, content)
		}
	}
	sort.Slice(objects, func(i, j int) bool { return objects[i].id() < objects[j].id() })
	return objects
}

// folders returns the names of the folders with a kustomization in deploy/NAME.
func folders(t *testing.T, name string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "deploy", name, "*", "kustomization.yaml"))
	if err != nil || len(files) < 5 {
		t.Fatalf("found %v in deploy/%s: %v", files, name, err)
	}
	var names []string
	for _, file := range files {
		names = append(names, filepath.Base(filepath.Dir(file)))
	}
	return names
}

func overlay(name string) string {
	return filepath.Join(root, "deploy", "overlays", name)
}
