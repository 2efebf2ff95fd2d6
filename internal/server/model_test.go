package server

import (
	"encoding/json"
	"testing"
)

func TestServiceModelVersion(t *testing.T) {
	t.Parallel()
	var model struct{ Metadata struct{ APIVersion, ServiceID, SigningName string } }
	if err := json.Unmarshal(ServiceModel(), &model); err != nil || model.Metadata.APIVersion != ServiceModelVersion || model.Metadata.ServiceID != "Onbehalf" || model.Metadata.SigningName != "bedrock-agentcore" {
		t.Errorf("the model's head is %+v, %v", model.Metadata, err)
	}
}
