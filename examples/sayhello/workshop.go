package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
)

// The file that says that this program runs in SageMaker (Workshop) Studio, and
// in which space. A variable only so that a test can put one elsewhere.
var resourceMetadata = "/opt/ml/metadata/resource-metadata.json"

// CallbackBaseURL is where a browser reaches the callback server: localhost, or,
// in SageMaker Workshop Studio, the proxy path of the space that the program runs in.
func CallbackBaseURL(ctx context.Context, port int, tls bool) (string, error) {
	content, err := os.ReadFile(resourceMetadata)
	if errors.Is(err, fs.ErrNotExist) {
		scheme := "http"
		if tls {
			scheme = "https"
		}
		return fmt.Sprintf("%s://localhost:%d", scheme, port), nil
	}
	const hint = "Outside SageMaker Studio this file does not exist; inside, its DomainId and SpaceName name the space."
	if err != nil {
		return "", &ConfigurationError{Problem{What: resourceMetadata + " cannot be read", Cause: err, Hint: hint}}
	}
	var space struct {
		DomainID  string `json:"DomainId"`
		SpaceName string `json:"SpaceName"`
	}
	if err := json.Unmarshal(content, &space); err != nil || space.DomainID == "" || space.SpaceName == "" {
		return "", &ConfigurationError{Problem{What: resourceMetadata + " names no domain and space", Cause: err, Hint: hint}}
	}
	aws, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return "", &CredentialsError{Problem{What: "the SageMaker API cannot be asked for the space's URL", Cause: err, Hint: hintCredentials}}
	}
	described, err := sagemaker.NewFromConfig(aws).DescribeSpace(ctx, &sagemaker.DescribeSpaceInput{DomainId: &space.DomainID, SpaceName: &space.SpaceName})
	if err != nil {
		return "", fromAWS(err, func(p Problem) error { return &ConfigurationError{p} }, "the SageMaker space "+space.SpaceName+" cannot be described", "The role needs sagemaker:DescribeSpace.")
	}
	if value(described.Url) == "" {
		return "", &ConfigurationError{Problem{What: "the SageMaker space " + space.SpaceName + " has no URL yet", Hint: "Start the space's application first."}}
	}
	return strings.TrimSuffix(*described.Url, "/") + fmt.Sprintf("/proxy/%d", port), nil
}

func queryEscape(s string) string { return url.QueryEscape(s) }
