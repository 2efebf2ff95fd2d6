package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Profile is the section of the credentials file that holds the root key.
const Profile = "onbehalf"

// Variable is one line of what `onbehalf env` prints.
type Variable struct{ Name, Value string }

// Environment is what makes an AWS SDK talk to this installation: its
// credentials, its region, and the endpoints of the two AgentCore services and of
// our own operations. The general AWS_ENDPOINT_URL is left out: it would redirect
// every AWS service.
func Environment(c Config) ([]Variable, error) {
	region := c.Region
	c = c.WithDefaults()
	data, err := filepath.Abs(c.Data)
	if err != nil {
		return nil, err
	}
	f := folder{path: data}
	if _, err := os.Stat(f.credentials()); err != nil {
		return nil, fmt.Errorf("no installation in %s: it has no credentials file", data)
	}
	before, err := f.readEndpoint()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the endpoint file of %s cannot be read: %w", data, err)
	}
	if region == "" && before.Region != "" {
		c.Region = before.Region
	}
	url := strings.TrimSuffix(c.PublicURL, "/")
	if url == "" {
		url = "http://" + DefaultAddr
		if before.URL != "" {
			url = before.URL
		}
	}
	return []Variable{
		{"AWS_SHARED_CREDENTIALS_FILE", f.credentials()},
		{"AWS_PROFILE", Profile},
		{"AWS_REGION", c.Region},
		{"AWS_DEFAULT_REGION", c.Region}, // what botocore reads, and with it boto3 and the AWS CLI of version 1
		{"AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", url},
		{"AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL", url},
		{endpointOwn, url},
	}, nil
}

const endpointOwn = "AWS_ENDPOINT_URL_ONBEHALF" // read by package client, and by boto3 and the AWS CLI with our model

// WithIAM adds the endpoints of IAM and STS, for programs that set up roles. All
// their calls of these services then go to this installation.
func WithIAM(variables []Variable) []Variable {
	for _, v := range variables {
		if v.Name == endpointOwn {
			return append(variables, Variable{"AWS_ENDPOINT_URL_IAM", v.Value}, Variable{"AWS_ENDPOINT_URL_STS", v.Value})
		}
	}
	return variables
}

// ShellQuoted protects a value from the shell where it needs protection.
func ShellQuoted(value string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/:.-_", r)
	}
	if value != "" && strings.IndexFunc(value, func(r rune) bool { return !plain(r) }) < 0 {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}
