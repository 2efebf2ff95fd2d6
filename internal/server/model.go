package server

import (
	"encoding/json"
	"slices"

	"github.com/onbehalf/onbehalf/internal/api"
)

// ServiceModel is the model of our own operations, as botocore loads it (service-2.json).
func ServiceModel() []byte { return api.ServiceModel }

// ServiceModelVersion is the apiVersion of the model, and the folder that botocore looks for it in.
const ServiceModelVersion = "2026-11-01"

// Paginators is the file beside the model that tells botocore which operations
// have pages (paginators-1.json): those with a nextToken in both directions, and one list.
func Paginators() ([]byte, error) {
	type shape struct {
		Type     string
		Members  map[string]struct{ Shape string }
		Required []string
	}
	var model struct {
		Operations map[string]struct{ Input, Output struct{ Shape string } }
		Shapes     map[string]shape
	}
	if err := json.Unmarshal(api.ServiceModel, &model); err != nil {
		return nil, err
	}
	pagination := map[string]map[string]string{}
	for name, op := range model.Operations {
		input, output := model.Shapes[op.Input.Shape].Members, model.Shapes[op.Output.Shape].Members
		// A token that always comes is a place to go on from later: walking such
		// pages would never end.
		always := slices.Contains(model.Shapes[op.Output.Shape].Required, "nextToken")
		if input["nextToken"].Shape == "" || output["nextToken"].Shape == "" || always {
			continue
		}
		for member, r := range output {
			if model.Shapes[r.Shape].Type == "list" {
				pagination[name] = map[string]string{"input_token": "nextToken", "output_token": "nextToken", "limit_key": "maxResults", "result_key": member}
			}
		}
	}
	return json.MarshalIndent(map[string]any{"pagination": pagination}, "", " ")
}
