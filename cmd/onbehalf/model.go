package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/onbehalf/onbehalf/internal/server"
)

type modelCmd struct {
	Into string `name:"into" type:"path" placeholder:"DIR" help:"Write it below this folder, with what its pages need, instead of printing it: botocore finds both when AWS_DATA_PATH names the folder."`
}

// Help is shown below the flags of model.
func (modelCmd) Help() string {
	return `The AWS CLI and boto3 learn our own operations (grants, trusted issuers and so on) from it.

Examples:
  onbehalf model > onbehalf.json && aws configure add-model --service-model file://onbehalf.json
  aws onbehalf list-grants
  onbehalf model --into ~/.onbehalf-models && export AWS_DATA_PATH=~/.onbehalf-models
  python3 -c 'import boto3; print(boto3.client("onbehalf").list_grants())'`
}

// Run prints or writes the model.
func (c modelCmd) Run(t *terminal) error {
	if c.Into == "" {
		_, err := t.out.Write(server.ServiceModel())
		return err
	}
	paginators, err := server.Paginators()
	if err != nil {
		return err
	}
	folder := filepath.Join(c.Into, "onbehalf", server.ServiceModelVersion)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"service-2.json": server.ServiceModel(), "paginators-1.json": paginators} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(t.out, folder)
	return err
}
