package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSignIns(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("canary-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{SignIns: []string{"https://login.example=platform", "https://login.example/a=b/=platform," + file}}
	got, err := c.signIns()
	if err != nil || len(got) != 2 || got[0].Issuer != "https://login.example" || got[0].ClientID != "platform" || !got[0].ClientSecret.Empty() ||
		got[1].Issuer != "https://login.example/a=b/" || got[1].ClientSecret.Reveal() != "canary-secret" {
		t.Errorf("read %v, %v", got, err)
	}
	for raw, complaint := range map[string]string{
		"https://login.example":                    "is not of the form",
		"https://login.example=":                   "is not of the form",
		"=platform":                                "is not of the form",
		"https://login.example=platform,":          "is not of the form",
		"http://login.example=platform":            "must be https",
		"http://127.0.0.1:7081=platform":           "must be https", // but for --dev
		"login.example=platform":                   "must be https",
		"https://login.example=platform,/nowhere/": "cannot be read",
	} {
		if _, err := (Config{SignIns: []string{raw}}).signIns(); err == nil || !strings.Contains(err.Error(), complaint) {
			t.Errorf("%s: %v, want %q", raw, err, complaint)
		}
	}
	if _, err := (Config{Dev: true, SignIns: []string{"http://127.0.0.1:7081=platform"}}).signIns(); err != nil {
		t.Error(err)
	}
	if _, err := (Config{SignIns: []string{"https://a.example=one", "https://a.example=two"}}).signIns(); err == nil {
		t.Error("two clients at one issuer")
	}
}
