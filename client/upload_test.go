package client_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/client"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

func at(url string) *client.Client {
	return client.New(aws.Config{Region: "us-east-1", BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider("AKIA", "secret", "")})
}

// counted is content that knows how often it was read to its end and how much of it at once.
type counted struct {
	io.ReadSeeker
	largest, ends int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadSeeker.Read(p)
	c.largest = max(c.largest, n)
	if err == io.EOF {
		c.ends++
	}
	return n, err
}

// An archive goes up as it is, signed over its hash, from where its reader
// stands, and once more when the server asks for it.
func TestUpload(t *testing.T) {
	t.Parallel()
	archive := strings.Repeat("PK", 1<<20)
	sum := sha256.Sum256([]byte(archive))
	var attempts atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != archive || r.ContentLength != int64(len(archive)) {
			t.Errorf("%d bytes of %d, %v", len(body), r.ContentLength, err)
		}
		if r.URL.Path != "/onbehalf/PutAgentCode" || r.Header.Get("Content-Type") != "application/octet-stream" || r.Header.Get("Expect") != "100-continue" ||
			strings.Contains(r.Header.Get("Authorization"), "expect") || !strings.Contains(r.Header.Get("Authorization"), "content-length") {
			t.Errorf("%s with %v", r.URL, r.Header)
		}
		if attempts.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{"bucket":"onbehalf-code-000000000000","prefix":"sha256/x.zip","sha256":"` + hex.EncodeToString(sum[:]) + `","size":2097152}`))
	}))
	defer server.Close()
	content := &counted{ReadSeeker: strings.NewReader("skipped" + archive)}
	if _, err := content.Seek(7, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	out, err := at(server.URL).PutAgentCode(t.Context(), &client.PutAgentCodeInput{Code: content})
	if err != nil {
		t.Fatal(err)
	}
	if attempts.Load() != 2 || *out.Bucket != "onbehalf-code-000000000000" || *out.Prefix != "sha256/x.zip" || *out.Size != 2<<20 || *out.Sha256 != hex.EncodeToString(sum[:]) {
		t.Errorf("after %d attempts: %+v", attempts.Load(), out)
	}
	if content.largest >= len(archive) {
		t.Errorf("%d bytes at once: the archive was held in memory", content.largest)
	}
}

// A server that refuses at the headers is not sent the archive.
func TestUploadRefused(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"message":"no"}`))
	}))
	defer server.Close()
	content := &counted{ReadSeeker: strings.NewReader(strings.Repeat("PK", 1<<20))}
	var denied *client.AccessDeniedException
	if _, err := at(server.URL).PutAgentCode(t.Context(), &client.PutAgentCodeInput{Code: content}); !errors.As(err, &denied) {
		t.Fatal(err)
	}
	if content.ends != 1 { // for the hash
		t.Errorf("the archive was read %d times", content.ends)
	}
	for _, input := range []*client.PutAgentCodeInput{nil, {}} {
		if _, err := at(server.URL).PutAgentCode(t.Context(), input); err == nil || !strings.Contains(err.Error(), "no content") {
			t.Errorf("without content: %v", err)
		}
	}
	if _, err := at(server.URL).PutAgentCode(t.Context(), &client.PutAgentCodeInput{Code: broken{strings.NewReader("")}}); err == nil || !strings.Contains(err.Error(), "disk") {
		t.Errorf("content that cannot be read: %v", err)
	}
}

type broken struct{ io.ReadSeeker }

func (broken) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

// On a real platform: an archive that is longer than memory holds, twice the
// same, and then what must be refused, before it is sent where that can be seen.
func TestCodeOnThePlatform(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	own := client.New(p.AWS)
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	file, err := w.CreateHeader(&zip.FileHeader{Name: "agent", Method: zip.Store})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(file, rand.New(rand.NewSource(1)), 3<<20); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(archive.Bytes())
	for range 2 {
		out, err := own.PutAgentCode(t.Context(), &client.PutAgentCodeInput{Code: bytes.NewReader(archive.Bytes())})
		if err != nil {
			t.Fatal(err)
		}
		if name := hex.EncodeToString(sum[:]); *out.Sha256 != name || *out.Prefix != "sha256/"+name+".zip" || *out.Size != int64(archive.Len()) || *out.Bucket != "onbehalf-code-000000000000" {
			t.Errorf("%+v", out)
		}
	}
	var invalid *client.ValidationException
	if _, err := own.PutAgentCode(t.Context(), &client.PutAgentCodeInput{Code: strings.NewReader("no archive")}); !errors.As(err, &invalid) {
		t.Errorf("no archive: %v", err)
	}
	long := &counted{ReadSeeker: io.NewSectionReader(zeros{}, 0, 250<<20+1)}
	if _, err := own.PutAgentCode(t.Context(), &client.PutAgentCodeInput{Code: long}); !errors.As(err, &invalid) || long.ends != 1 {
		t.Errorf("a byte too long, read %d times: %v", long.ends, err)
	}
	stranger := client.New(p.AWS, func(o *client.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider("AKIAAAAAAAAAAAAAAAAA", "secret", "")
	})
	content := &counted{ReadSeeker: bytes.NewReader(archive.Bytes())}
	var unknown smithy.APIError
	if _, err := stranger.PutAgentCode(t.Context(), &client.PutAgentCodeInput{Code: content}); !errors.As(err, &unknown) || unknown.ErrorCode() != "UnrecognizedClientException" || content.ends != 1 {
		t.Errorf("with nobody's key, read %d times: %v", content.ends, err)
	}

	sessions := client.NewListAgentRuntimeSessionsPaginator(own, nil)
	page, err := sessions.NextPage(t.Context())
	if err != nil || len(page.Sessions) != 0 || sessions.HasMorePages() {
		t.Errorf("%+v, %v", page, err)
	}
	var missing *client.ResourceNotFoundException
	if _, err := own.GetAgentRuntimeLogs(t.Context(), &client.GetAgentRuntimeLogsInput{AgentRuntimeId: aws.String("nobodys-0123456789")}); !errors.As(err, &missing) {
		t.Errorf("logs of nobody's agent: %v", err)
	}
	if _, err := own.GetAgentRuntimeLogs(t.Context(), nil); !errors.As(err, &invalid) || len(invalid.FieldList) != 1 || *invalid.FieldList[0].Name != "agentRuntimeId" {
		t.Errorf("logs of none: %v", err)
	}
}

// zeros is a long nothing.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}
