package sigv4

import (
	"bufio"
	"io"
	"os"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// profileLimit bounds a credentials file.
const profileLimit = 1 << 20

// ReadProfile reads the static keys of a profile from a file in the shared
// credentials format of AWS. An empty profile is "default". Read it at each use:
// temporary keys in it are renewed by whoever writes it. Errors quote nothing of the file.
func ReadProfile(path, profile string) (Key, error) {
	if profile == "" {
		profile = "default"
	}
	file, err := os.Open(path)
	if err != nil {
		return Key{}, fault.New(fault.Unavailable, "The file with the AWS credentials cannot be read.").Because(err)
	}
	defer file.Close()
	var key Key
	inside := false
	lines := bufio.NewScanner(io.LimitReader(file, profileLimit))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			inside = strings.TrimSpace(strings.Trim(line, "[]")) == profile
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if !inside || !found || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "aws_access_key_id":
			key.AccessKeyID = value
		case "aws_secret_access_key":
			key.Secret = secret.New(value)
		case "aws_session_token":
			key.SessionToken = secret.New(value)
		}
	}
	if err := lines.Err(); err != nil {
		return Key{}, fault.New(fault.Unavailable, "The file with the AWS credentials cannot be read.").Because(err)
	}
	if key.AccessKeyID == "" || key.Secret.Empty() {
		return Key{}, fault.New(fault.Unavailable, "The file with the AWS credentials has no keys for the profile %s.", profile)
	}
	return key, nil
}
