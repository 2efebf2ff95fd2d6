package server

import "github.com/onbehalf/onbehalf/internal/api"

// ServiceModel is the model of our own operations, as botocore loads it
// (service-2.json), and ServiceModelVersion the folder that it looks for it in.
func ServiceModel() []byte { return api.ServiceModel }

// ServiceModelVersion is the apiVersion of the model.
const ServiceModelVersion = "2026-11-01"
