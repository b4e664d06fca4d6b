package deploy

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The programs here are small ones of this machine: only the layout is of interest.
func TestTheImageIsTheSameTwiceAndRunsAsNobody(t *testing.T) {
	binaries := t.TempDir()
	program, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"longhaul", "longhaul-worker", "hellotest"} {
		if err := os.WriteFile(filepath.Join(binaries, name), program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	image := func() []byte {
		output := filepath.Join(t.TempDir(), "image.tar")
		command := exec.Command(filepath.Join(root, "deploy/image"), "--binaries", binaries, output)
		command.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
		if text, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		content, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	first := image()
	if !bytes.Equal(first, image()) {
		t.Error("two images of the same programs differ")
	}
	parts := files(t, first)
	var index struct{ Manifests []struct{ Digest string } }
	var manifest struct{ Config struct{ Digest string } }
	var config struct {
		Config struct {
			User       string
			Entrypoint []string
			Labels     map[string]string
		}
	}
	blob := func(digest string) []byte { return parts["blobs/"+strings.Replace(digest, ":", "/", 1)] }
	for _, step := range []func() error{
		func() error { return json.Unmarshal(parts["index.json"], &index) },
		func() error { return json.Unmarshal(blob(index.Manifests[0].Digest), &manifest) },
		func() error { return json.Unmarshal(blob(manifest.Config.Digest), &config) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "longhaul" {
		t.Errorf("%+v", config.Config)
	}
	for _, label := range []string{"title", "licenses", "version", "created"} {
		if config.Config.Labels["org.opencontainers.image."+label] == "" {
			t.Errorf("no label %s", label)
		}
	}
}

func files(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		found[header.Name] = content
	}
}
