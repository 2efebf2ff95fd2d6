// Package gateway holds gateways, their targets and the MCP endpoint.
package gateway
