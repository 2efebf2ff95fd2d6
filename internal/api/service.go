package api

import _ "embed"

// ServiceModel is the model of our own operations, in the format that botocore
// and the AWS CLI load (service-2.json).
//
//go:embed model/onbehalf.json
var ServiceModel []byte

// AgentCodeLimit is how long an archive of PutAgentCode may be, as the model has it.
const AgentCodeLimit = 250 << 20
