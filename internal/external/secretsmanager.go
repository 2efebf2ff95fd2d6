package external

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

// amazon speaks AWS's JSON 1.1 protocol to one service.
type amazon struct {
	endpoint    string
	region      string
	service     string // the signing name
	target      string // of X-Amz-Target, before the operation's name
	credentials string
	profile     string
	client      *http.Client
}

// call sends one request. A refusal is an *amazonError.
func (a *amazon) call(ctx context.Context, operation string, input, output any) error {
	key, err := sigv4.ReadProfile(a.credentials, a.profile)
	if err != nil {
		return problemf(fault.Unavailable, "its source cannot be reached").because(err)
	}
	body, err := json.Marshal(input)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(a.endpoint, "/")+"/", bytes.NewReader(body))
	if err != nil {
		return problemf(fault.Unavailable, "its source cannot be reached")
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", a.target+"."+operation)
	if err := sigv4.Sign(request, key, a.region, a.service, sha256.Sum256(body), time.Now()); err != nil {
		return err
	}
	status, answer, err := ask(a.client, request)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		var refusal struct {
			Type string `json:"__type"`
		}
		_ = json.Unmarshal(answer, &refusal)
		code := refusal.Type[strings.LastIndexByte(refusal.Type, '#')+1:]
		if !variableName.MatchString(code) || len(code) > 100 {
			code = "no code" // whatever a server says is not for our log
		}
		return &amazonError{status, code}
	}
	if json.Unmarshal(answer, output) != nil {
		return problemf(fault.Unavailable, "its source gave an answer that cannot be understood")
	}
	return nil
}

type amazonError struct {
	status int
	code   string
}

func (e *amazonError) Error() string { return fmt.Sprintf("status %d, %s", e.status, e.code) }

// secretsManager reads secrets whose names begin with a prefix.
type secretsManager struct {
	amazon
	prefix string
}

func openSecretsManager(s Source) (reader, error) {
	client, err := operatorClient(s.CAFile)
	if err != nil {
		return nil, err
	}
	if _, err := sigv4.ReadProfile(s.CredentialsFile, s.Profile); err != nil {
		return nil, fmt.Errorf("credentials-file: %s", fault.Of(err).Message)
	}
	return &secretsManager{amazon{
		endpoint: s.Endpoint, region: s.Region, service: "secretsmanager", target: "secretsmanager",
		credentials: s.CredentialsFile, profile: s.Profile, client: client,
	}, s.Prefix}, nil
}

// read takes a name below the prefix, or a whole ARN, whose prefix has been checked.
func (m *secretsManager) read(ctx context.Context, path string) ([]byte, error) {
	id := path
	if !strings.HasPrefix(path, "arn:") {
		id = m.prefix + path
	}
	var answer struct {
		SecretString *string
		SecretBinary []byte
	}
	err := m.call(ctx, "GetSecretValue", map[string]string{"SecretId": id}, &answer)
	var refused *amazonError
	if errors.As(err, &refused) {
		switch refused.code {
		case "ResourceNotFoundException":
			return nil, errNotThere
		case "InvalidRequestException": // scheduled for deletion, mostly
			return nil, problemf(fault.Invalid, "it is being deleted, or has no current version").because(refused)
		case "AccessDeniedException":
			return nil, problemf(fault.Invalid, "its source refuses it to the platform").because(refused)
		case "DecryptionFailure":
			return nil, problemf(fault.Undecryptable, "its source cannot decrypt it").because(refused)
		}
		return nil, problemf(fault.Unavailable, "its source failed").because(refused)
	}
	if err != nil {
		return nil, err
	}
	data := answer.SecretBinary
	if answer.SecretString != nil {
		data = []byte(*answer.SecretString)
	}
	if len(data) > contentLimit {
		return nil, errTooLarge
	}
	if data == nil {
		return nil, errNotThere
	}
	return data, nil
}
