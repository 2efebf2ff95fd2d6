package e2e

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/demoidp"
)

// boto3 and the AWS CLI know nothing of Onbehalf until they have read its model;
// then its operations are like any other.
func TestOwnOperationsThroughBoto3AndTheCLI(t *testing.T) {
	t.Parallel()
	python := filepath.Join("clients", ".venv", "bin", "python")
	need(t, "boto3 and the AWS CLI", exists(python) && exists(filepath.Join("clients", ".venv", "bin", "aws")))
	s := startScene(t)
	jwt := s.signIn(demoidp.Ada)
	token := s.speakFor(s.agent, jwt)
	s.consent(token, jwt, demoidp.Ada)
	work := func(r *bedrockagentcore.GetResourceOauth2TokenInput) { r.CustomParameters["onbehalf_account"] = "work" }
	link, session := s.link(token, work)
	s.allow(link, demoidp.Ada)
	if err := s.complete(session, jwt); err != nil {
		t.Fatal(err)
	}
	if s.access(token) == s.access(token, work) {
		t.Error("two accounts have one token")
	}

	home := t.TempDir()
	folder, file := filepath.Join(home, "models"), filepath.Join(home, "given.json")
	if _, said, code := command(t, os.Environ(), onbehalfBinary, "model", "--into", folder); code != 0 {
		t.Fatal(said)
	}
	archive := filepath.Join(home, "agent.zip")
	content := archiveOf(t, "agent", "#!/bin/sh\n")
	if err := os.WriteFile(archive, content, 0o600); err != nil {
		t.Fatal(err)
	}
	given, err := json.Marshal(map[string]string{"archive": archive, "folder": folder, "model": filepath.Join(folder, "onbehalf", "2026-11-01", "service-2.json"), "agent": s.agent, "provider": s.provider, "token": token})
	if err == nil {
		err = os.WriteFile(file, given, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	env := append(s.environment(), "HOME="+home, "AWS_ENDPOINT_URL_ONBEHALF="+s.url, "AWS_PAGER=", "PYTHONDONTWRITEBYTECODE=1")
	out, errOut, code := command(t, env, python, filepath.Join("clients", "own_operations.py"), file)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errOut)
	}
	var got struct {
		Operations, CLIListed, CLIPaged, Listed, Missing, Rest []string
		CLIMissing, State, Refused, Revoked                    string
		CLIDescribed, Times                                    bool
		Left, Sessions                                         int
		Stored, StoredByCLI                                    struct {
			Bucket, Prefix, SHA256 string
			Size                   int64
		}
		NoLogs   string
		Followed bool
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var ours []string
	for _, op := range api.Operations {
		if op.Service == "onbehalf" {
			ours = append(ours, op.Name)
		}
	}
	slices.Sort(ours)
	if !slices.Equal(got.Operations, ours) {
		t.Errorf("boto3 knows %v, want %v", got.Operations, ours)
	}
	if len(got.Listed) != 2 || !slices.Equal(got.CLIListed, got.Listed) || !slices.Equal(got.CLIPaged, got.Listed) {
		t.Errorf("boto3 lists %v, the CLI %v and in pages %v", got.Listed, got.CLIListed, got.CLIPaged)
	}
	if !got.Times || got.State != "NEEDS_CONSENT" || !slices.Equal(got.Missing, []string{"email"}) {
		t.Errorf("times parsed: %t, state %s, missing %v", got.Times, got.State, got.Missing)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	if got.Stored != got.StoredByCLI || got.Stored.Bucket != "onbehalf-code-000000000000" || got.Stored.Prefix != "sha256/"+sum+".zip" || got.Stored.SHA256 != sum || got.Stored.Size != int64(len(content)) {
		t.Errorf("stored %+v, by the CLI %+v", got.Stored, got.StoredByCLI)
	}
	if got.Sessions != 0 || got.NoLogs != "ResourceNotFoundException" || got.Followed {
		t.Errorf("%d sessions, logs of nobody's agent: %q, pages of logs: %t", got.Sessions, got.NoLogs, got.Followed)
	}
	if !strings.Contains(got.CLIMissing, "ResourceNotFoundException") || !strings.Contains(got.Refused, "NOBODYS") || !got.CLIDescribed {
		t.Errorf("errors %q and %q, help %t", got.CLIMissing, got.Refused, got.CLIDescribed)
	}
	if got.Revoked != "REVOKED" || !slices.Equal(got.Rest, []string{"REVOKED"}) || got.Left != 0 {
		t.Errorf("revoked %s, the rest %v, left %d", got.Revoked, got.Rest, got.Left)
	}
	if out, err := s.try(t.Context(), token); err != nil || out.AuthorizationUrl == nil {
		t.Errorf("after all was revoked: %+v, %v", out, err)
	}
}

// archiveOf is an archive with one program.
func archiveOf(t *testing.T, name, content string) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	header := &zip.FileHeader{Name: name, Method: zip.Deflate}
	header.SetMode(0o755)
	file, err := w.CreateHeader(header)
	if err == nil {
		_, err = file.Write([]byte(content))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}
