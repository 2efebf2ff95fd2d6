package external

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// vault reads secrets of a KV engine, version 2, of OpenBao or HashiCorp Vault.
// Its token needs the capability read below the prefix, and no other.
type vault struct {
	base      string // up to the prefix
	namespace string
	tokenFile string
	client    *http.Client
}

func openVault(s Source) (reader, error) {
	client, err := operatorClient(s.CAFile)
	if err != nil {
		return nil, err
	}
	v := &vault{base: strings.TrimRight(s.Address, "/") + "/v1/" + s.Mount + "/data/" + s.Prefix + "/", namespace: s.Namespace, tokenFile: s.TokenFile, client: client}
	if _, err := v.token(); err != nil {
		return nil, err
	}
	return v, nil
}

func (v *vault) token() (string, error) {
	token, err := os.ReadFile(v.tokenFile)
	if err != nil {
		return "", fmt.Errorf("token-file: %w", err)
	}
	text := strings.TrimSpace(string(token))
	if text == "" || len(text) > 16<<10 || strings.ContainsAny(text, "\r\n\x00") {
		return "", errors.New("token-file: it does not hold a token")
	}
	return text, nil
}

func (v *vault) read(ctx context.Context, path string) ([]byte, error) {
	token, err := v.token()
	if err != nil {
		return nil, problemf(fault.Unavailable, "its source cannot be reached").because(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+path, nil) // plain paths: nothing to escape
	if err != nil {
		return nil, problemf(fault.Unavailable, "its source cannot be reached")
	}
	request.Header.Set("X-Vault-Request", "true") // an agent in between refuses requests without it
	request.Header.Set("X-Vault-Token", token)
	if v.namespace != "" {
		request.Header.Set("X-Vault-Namespace", v.namespace)
	}
	status, body, err := ask(v.client, request)
	if err != nil {
		return nil, err
	}
	switch {
	case status == http.StatusNotFound:
		return nil, errNotThere
	case status == http.StatusForbidden:
		return nil, problemf(fault.Invalid, "its source refuses it to the platform").because(errors.New("status 403: the token has expired, or its policy does not allow the path"))
	case status != http.StatusOK:
		return nil, problemf(fault.Unavailable, "its source failed").because(fmt.Errorf("status %d", status))
	}
	var answer struct {
		Data struct {
			Data json.RawMessage `json:"data"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &answer) != nil || len(answer.Data.Data) == 0 {
		return nil, problemf(fault.Unavailable, "its source gave an answer that cannot be understood") // the cause could quote it
	}
	if string(answer.Data.Data) == "null" {
		return nil, errNotThere // its newest version is deleted
	}
	return answer.Data.Data, nil
}

// ask sends a request to a source and reads the answer, of a bounded size. What
// cannot be asked is a problem of kind Unavailable.
func ask(client *http.Client, request *http.Request) (int, []byte, error) {
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, problemf(fault.Unavailable, "its source cannot be reached").because(egress.Safe(err))
	}
	if response.ContentLength > 2*contentLimit {
		_ = response.Body.Close()
		return 0, nil, errTooLarge
	}
	body, err := egress.ReadAll(response, 2*contentLimit) // JSON in JSON is up to twice as long
	if fault.Is(err, fault.Upstream) {
		return 0, nil, errTooLarge
	}
	if err != nil {
		return 0, nil, problemf(fault.Unavailable, "its source cannot be reached").because(err)
	}
	return response.StatusCode, body, nil
}
