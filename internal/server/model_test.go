package server

import (
	"encoding/json"
	"testing"
)

func TestServiceModelVersion(t *testing.T) {
	t.Parallel()
	var model struct {
		Metadata struct{ APIVersion, ServiceID, SigningName string }
	}
	if err := json.Unmarshal(ServiceModel(), &model); err != nil || model.Metadata.APIVersion != ServiceModelVersion || model.Metadata.ServiceID != "Onbehalf" || model.Metadata.SigningName != "bedrock-agentcore" {
		t.Errorf("the model's head is %+v, %v", model.Metadata, err)
	}
}

func TestPaginators(t *testing.T) {
	t.Parallel()
	file, err := Paginators()
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Pagination map[string]map[string]string }
	if err := json.Unmarshal(file, &got); err != nil || got.Pagination["ListGrants"]["result_key"] != "grants" || got.Pagination["GetGrant"] != nil {
		t.Errorf("%s, %v", file, err)
	}
}
