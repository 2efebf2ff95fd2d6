package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
)

// The file that says that this program runs in SageMaker (Workshop) Studio, and in which space.
const resourceMetadata = "/opt/ml/metadata/resource-metadata.json"

// studioURL is where a browser reaches a port of this machine through the proxy
// of the Studio space that the program runs in; empty outside Studio.
func studioURL(ctx context.Context, metadata, region string, port int) (string, error) {
	content, err := os.ReadFile(metadata)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	const hint = "Outside SageMaker Studio this file does not exist; inside, its DomainId and SpaceName name the space. CALLBACK_URL says where browsers come to without it."
	if err != nil {
		return "", &ConfigurationError{Problem{What: metadata + " cannot be read", Cause: err, Hint: hint}}
	}
	var space struct {
		DomainID  string `json:"DomainId"`
		SpaceName string `json:"SpaceName"`
	}
	if err := json.Unmarshal(content, &space); err != nil || space.DomainID == "" || space.SpaceName == "" {
		return "", &ConfigurationError{Problem{What: metadata + " names no domain and space", Cause: err, Hint: hint}}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	loaded, err := config.LoadDefaultConfig(ctx, config.WithRegion(region))
	if err != nil {
		return "", &CredentialsError{Problem{What: "the SageMaker API cannot be asked for the space's URL", Cause: err, Hint: hintCredentials}}
	}
	described, err := sagemaker.NewFromConfig(loaded).DescribeSpace(ctx, &sagemaker.DescribeSpaceInput{DomainId: &space.DomainID, SpaceName: &space.SpaceName})
	if err != nil {
		return "", fromAWS(err, func(p Problem) error { return &ConfigurationError{p} }, "the SageMaker space "+space.SpaceName+" cannot be described", "The role needs sagemaker:DescribeSpace. "+hint)
	}
	if !isWebURL(value(described.Url)) {
		return "", &ConfigurationError{Problem{What: "the SageMaker space " + space.SpaceName + " has no URL yet", Hint: "Start the space's application first."}}
	}
	return strings.TrimSuffix(*described.Url, "/") + fmt.Sprintf("/proxy/%d", port), nil
}
