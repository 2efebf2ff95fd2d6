package external

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// WholeValue is the jsonKey of a secret that is plain text and no JSON object.
const WholeValue = "$"

var (
	// plainName has the characters of a secret's name at AWS: what is shown as an ARN
	// is one. Its length is checked apart: a counted repetition is unrolled, to half a megabyte.
	plainName = regexp.MustCompile(`^[A-Za-z0-9_/+=.@!-]+$`)
	secretARN = regexp.MustCompile(`^arn:(?:aws|aws-us-gov):secretsmanager:([a-z0-9-]{1,20}):([0-9]{12}):secret:([A-Za-z0-9_/+=.@!-]+)$`)
)

const longestName = 512

// plainPath reports whether a path leads down and nowhere else.
func plainPath(path string) bool {
	if len(path) > longestName || !plainName.MatchString(path) {
		return false
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

// find says which source a secretId means, and the path in it. Of an ARN, the
// Secrets Manager source of its region, account and prefix is meant; else, where
// it is one that Show made, what it was made of.
func (s *Secrets) find(account, id string) (source, string, error) {
	var none source
	if s == nil || len(s.sources[account]) == 0 {
		return none, "", fault.New(fault.Invalid, "This account has no source of external secrets. An operator declares them with --secret-source.")
	}
	name := id
	if strings.HasPrefix(id, "arn:") {
		parts := secretARN.FindStringSubmatch(id)
		if parts == nil || !plainPath(parts[3]) {
			return none, "", fault.New(fault.Invalid, "The secretId looks like an ARN, and is not the ARN of a secret in Secrets Manager.")
		}
		var nearest source // of several, the one with the longest prefix
		for _, each := range s.sources[account] {
			if each.Kind == KindSecretsManager && each.Region == parts[1] && each.AWSAccount == parts[2] && strings.HasPrefix(parts[3], each.Prefix) &&
				(nearest.reader == nil || len(each.Prefix) > len(nearest.Prefix) || len(each.Prefix) == len(nearest.Prefix) && each.Name < nearest.Name) {
				nearest = each
			}
		}
		if nearest.reader != nil {
			return nearest, id, nil
		}
		if name = parts[3]; parts[1] != s.region || parts[2] != account {
			return none, "", fault.New(fault.Invalid, "No source of external secrets of this account has the secret %s: an operator declares region, account and prefix.", id)
		}
	}
	first, path, found := strings.Cut(name, "/")
	if !found || !plainPath(name) {
		return none, "", fault.New(fault.Invalid, "The secretId must be SOURCE/PATH or the ARN of a secret in Secrets Manager, of letters, digits and _ / + = . @ ! - with neither . nor .. as a part.")
	}
	from, declared := s.sources[account][first]
	if !declared {
		return none, "", fault.New(fault.Invalid, "No source of external secrets of this account is called %s.", first)
	}
	return from, path, nil
}

// Show is the ARN under which a secretId is shown, as the API wants one. As a secretId it means the same again.
func (s *Secrets) Show(account, id string) string {
	if strings.HasPrefix(id, "arn:") {
		return id
	}
	region := ""
	if s != nil {
		region = s.region
		if from, path, err := s.find(account, id); err == nil && from.Kind == KindSecretsManager {
			return fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:%s", from.Region, from.AWSAccount, from.Prefix+path)
		}
	}
	return fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:%s", region, account, id)
}

// member reads the value that a jsonKey means: a string that is not empty. A key
// that is there twice means nothing, since two readers would not agree on it.
func member(data []byte, key string) (string, error) {
	value, err := jsonMember(data, key)
	if err != nil && key == WholeValue {
		value, err = strings.TrimRight(string(data), "\r\n"), nil
		if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
			return "", problemf(fault.Invalid, "it is not text")
		}
	}
	if err == nil && value == "" {
		err = problemf(fault.Invalid, "its value is empty")
	}
	return value, err
}

func jsonMember(data []byte, key string) (string, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	notObject := problemf(fault.Invalid, "it is not a JSON object; the jsonKey %s takes the whole of a plain text", WholeValue)
	if opening, err := decoder.Token(); err != nil || opening != json.Delim('{') {
		return "", notObject
	}
	var value *string
	seen := map[string]bool{}
	wrong := false
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return "", notObject // json's own error may quote what it read
		}
		text, _ := name.(string)
		if seen[text] {
			return "", problemf(fault.Invalid, "its JSON object has a member twice")
		}
		seen[text] = true
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return "", notObject
		}
		if text == key && (json.Unmarshal(raw, &value) != nil || value == nil) {
			wrong = true
		}
	}
	if _, err := decoder.Token(); err != nil {
		return "", notObject
	}
	if _, err := decoder.Token(); err != io.EOF {
		return "", notObject
	}
	switch {
	case wrong:
		return "", problemf(fault.Invalid, "the member that jsonKey names is not a string")
	case value == nil:
		return "", problemf(fault.Invalid, "its JSON object has no member of the name that jsonKey gives")
	}
	return *value, nil
}
