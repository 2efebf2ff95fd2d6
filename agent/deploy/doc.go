// Package deploy puts an agent on a platform: it finds out what the agent is
// written in, packages it, makes its runtime, calls it and removes it. The commands
// `onbehalf agent …` are this package with a terminal around it.
//
//	a folder ─ Configure ─▶ Agent, and onbehalf-agent.yaml, which people read and commit
//	                           │
//	Launch ── build ─▶ archive: the same bytes for the same agent ─▶ PutAgentCode
//	       ── role, made where there is none
//	       ── CreateAgentRuntime, or UpdateAgentRuntime for the next version ─▶ READY
//	Status, Invoke, Logs, Sessions, StopSession ─▶ signed calls of the platform
//	Destroy ─▶ runtime, policies and role go, as far as this package made them
//
// It needs nothing of AWS's generated packages: the dozen calls are written down in
// calls.go, and what is ours goes through package client.
//
// Invariants: what looks like a secret in the folder goes into no archive, whatever
// its settings say, and into no settings file. A runtime that another folder launched
// is not changed, and a role that somebody else made is not deleted. The folder may be
// anybody's: reading and packaging it runs nothing (a build does, where the language or
// the settings have one), waits for nothing, and writes nowhere else.
package deploy
