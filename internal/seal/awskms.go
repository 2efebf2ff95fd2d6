package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

// KMSOptions name a key of AWS KMS, or of a server that speaks its API.
type KMSOptions struct {
	ARN         string                            // arn:aws:kms:REGION:ACCOUNT:key/ID; an alias could be pointed at another key
	Endpoint    string                            // https://…, or http on loopback; empty is AWS's own of the region
	Credentials func() (key sigv4.Key, err error) // asked at each call, because temporary ones are renewed
	Client      *http.Client                      // egress.Operator
}

type kmsKey struct {
	arn, region, endpoint string
	credentials           func() (sigv4.Key, error)
	client                *http.Client
}

var kmsARN = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov):kms:([a-z0-9-]{1,32}):([0-9]{12}):key/[a-zA-Z0-9-]{1,64}$`)

// OpenKMSKey checks the options; NewKeeper proves the key. Its policy must allow
// kms:Encrypt and kms:Decrypt; the encryption context "onbehalf" says which data
// key it is, in KMS's own log and in conditions of a key policy.
func OpenKMSKey(o KMSOptions) (KeyWrapper, error) {
	parts := kmsARN.FindStringSubmatch(o.ARN)
	if parts == nil {
		return nil, fault.New(fault.Invalid, "%q is not the ARN of a KMS key (arn:aws:kms:REGION:ACCOUNT:key/ID; an alias does not do).", o.ARN)
	}
	k := &kmsKey{arn: o.ARN, region: parts[2], endpoint: strings.TrimRight(o.Endpoint, "/"), credentials: o.Credentials, client: o.Client}
	if k.endpoint == "" {
		k.endpoint = "https://kms." + k.region + ".amazonaws.com"
		if parts[1] == "aws-cn" {
			k.endpoint += ".cn"
		}
	}
	address, err := url.Parse(k.endpoint)
	if err != nil || address.Host == "" || address.User != nil || address.RawQuery != "" || address.Fragment != "" ||
		address.Scheme != "https" && (address.Scheme != "http" || !loopback(address.Hostname())) {
		return nil, fault.New(fault.Invalid, "The endpoint of a KMS key must look like https://kms.example.com (http is for loopback only).")
	}
	return k, nil
}

// ID implements KeyWrapper. The endpoint is left out: a key keeps its name when its server moves.
func (k *kmsKey) ID() string { return "awskms:" + k.arn }

// kmsFields are the members of requests and answers that we use.
type kmsFields struct {
	KeyId             string            `json:"KeyId,omitempty"`
	Plaintext         []byte            `json:"Plaintext,omitempty"` // base64, as encoding/json does with bytes
	CiphertextBlob    []byte            `json:"CiphertextBlob,omitempty"`
	EncryptionContext map[string]string `json:"EncryptionContext,omitempty"`
}

// Wrap implements KeyWrapper.
func (k *kmsKey) Wrap(ctx context.Context, dataKey []byte, bound string) ([]byte, error) {
	answer, err := k.call(ctx, "Encrypt", kmsFields{Plaintext: dataKey}, bound)
	if err != nil {
		return nil, err
	}
	if len(answer.CiphertextBlob) == 0 || bytes.Contains(answer.CiphertextBlob, dataKey) {
		return nil, unanswered(k.ID(), "gave no ciphertext", nil)
	}
	return answer.CiphertextBlob, nil
}

// Unwrap implements KeyWrapper.
func (k *kmsKey) Unwrap(ctx context.Context, wrapped []byte, bound string) ([]byte, error) {
	answer, err := k.call(ctx, "Decrypt", kmsFields{CiphertextBlob: wrapped}, bound)
	return answer.Plaintext, err
}

func (k *kmsKey) call(ctx context.Context, act string, fields kmsFields, bound string) (kmsFields, error) {
	fields.KeyId, fields.EncryptionContext = k.arn, map[string]string{"onbehalf": bound}
	body, err := json.Marshal(fields)
	if err != nil {
		return kmsFields{}, fault.Wrap(err, "asking KMS")
	}
	defer clear(body)
	answer, err := persistently(ctx, func(ctx context.Context) (kmsFields, error) { return k.once(ctx, act, body) })
	if err == nil && answer.KeyId != k.arn { // what another key did is not this key's
		clear(answer.Plaintext)
		return kmsFields{}, unanswered(k.ID(), "answered for another key", fmt.Errorf("it names %.200q", answer.KeyId))
	}
	return answer, err
}

func (k *kmsKey) once(ctx context.Context, act string, body []byte) (kmsFields, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, k.endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return kmsFields{}, fault.Wrap(err, "asking KMS")
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "TrentService."+act)
	key, err := k.credentials()
	if err != nil {
		return kmsFields{}, err
	}
	if err := sigv4.Sign(request, key, k.region, "kms", sha256.Sum256(body), time.Now()); err != nil {
		return kmsFields{}, err
	}
	response, err := k.client.Do(request)
	if err != nil {
		return kmsFields{}, passing{unanswered(k.ID(), "cannot be reached", err)}
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, remoteLimit))
	defer clear(content)
	if err != nil {
		return kmsFields{}, passing{unanswered(k.ID(), "broke off its answer", err)}
	}
	if response.StatusCode != http.StatusOK {
		return kmsFields{}, k.refusal(response, content)
	}
	var answer kmsFields
	if err := json.Unmarshal(content, &answer); err != nil {
		return kmsFields{}, unanswered(k.ID(), "gave an answer that cannot be understood", nil) // the cause could quote the key
	}
	return answer, nil
}

// refusal turns an answer that is not 200 into an error. KMS's messages go to the
// log: they name keys and principals, not values.
func (k *kmsKey) refusal(response *http.Response, content []byte) error {
	var answer struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if json.Unmarshal(content, &answer) != nil || answer.Type == "" {
		answer.Type, _, _ = strings.Cut(response.Header.Get("X-Amzn-ErrorType"), ":")
	}
	name := answer.Type[strings.LastIndexByte(answer.Type, '#')+1:]
	cause := fmt.Errorf("status %d: %.100s: %.500s", response.StatusCode, name, answer.Message)
	switch name {
	case "NotFoundException":
		return keyGone(k.ID())
	case "InvalidCiphertextException", "IncorrectKeyException", "InvalidKeyUsageException":
		return fault.New(fault.Undecryptable, "A data key does not open with the key %s: it is another key, or the database was altered.", k.ID()).Because(cause)
	case "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException", "ExpiredTokenException", "IncompleteSignature", "InvalidClientTokenId":
		return unanswered(k.ID(), "refused our credentials", cause)
	case "DisabledException", "KMSInvalidStateException", "KeyUnavailableException":
		return unanswered(k.ID(), "has the key disabled, or is about to delete it", cause)
	}
	if response.StatusCode >= http.StatusInternalServerError || response.StatusCode == http.StatusTooManyRequests || name == "ThrottlingException" || name == "LimitExceededException" {
		return passing{unanswered(k.ID(), "failed", cause)}
	}
	return unanswered(k.ID(), "failed", cause)
}
