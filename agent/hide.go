package agent

import (
	"strings"

	"github.com/aws/smithy-go"
)

// shortest is the length from which on a text counts as a secret: a custom
// parameter like "offline" is none, and taking it out would spoil the message.
const shortest = 12

// hide takes the secrets out of a text, and says whether there were any.
func hide(text string, secrets []string) (string, bool) {
	found := false
	for _, s := range secrets {
		if len(s) >= shortest && strings.Contains(text, s) {
			text, found = strings.ReplaceAll(text, s, redacted), true
		}
	}
	return text, found
}

// hideIn is the error itself where it quotes no secret, as nearly all do; else
// one with a text that does not, which unwraps to it.
func hideIn(err error, secrets ...string) error {
	if text, found := hide(err.Error(), secrets); found {
		return &hidden{text, err}
	}
	return err
}

type hidden struct {
	text string
	err  error
}

func (h *hidden) Error() string { return h.text }
func (h *hidden) Unwrap() error { return h.err }

// hideInAPI is hideIn for an exception whose message quotes what was sent. It
// has to go altogether, because programs print the exception that errors.As finds.
func hideInAPI(err error, api smithy.APIError, secrets []string) error {
	if _, found := hide(err.Error(), secrets); !found {
		return err
	}
	message, _ := hide(api.ErrorMessage(), secrets)
	return &smithy.GenericAPIError{Code: api.ErrorCode(), Message: message, Fault: api.ErrorFault()}
}
