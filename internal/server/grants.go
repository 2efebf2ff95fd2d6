package server

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/wire"
)

// grants are the ARNs that a call about grants touches: those of the workload
// and the provider that it names, and where it names none, all of them. Who may
// list one workload's grants has to name that workload.
func (m resources) grants(account string, workload, provider *string) []string {
	return append(m.workload(account, named(workload)), m.provider(account, named(provider))...)
}

func named(name *string) string {
	if name == nil {
		return "*"
	}
	return *name
}

// ofGrant guards an operation on one grant by the workload and the provider that
// it belongs to. A grant that is not there touches the directory and the vault
// alone; the broker then says so.
func ofGrant[Req, Resp any](op api.Operation[Req, Resp], m resources, b *broker.Broker, id func(*Req) string, method func(context.Context, principal.Caller, *Req) (*Resp, error)) wire.Route {
	return wire.Handle(op, func(ctx context.Context, caller principal.Caller, r *Req) (principal.Caller, []gate.Check, error) {
		touched := append(m.directory(caller.Account), m.vault(caller.Account)...)
		if subject, err := b.SubjectOfGrant(ctx, caller.Account, id(r)); err == nil {
			touched = append(m.workload(caller.Account, subject.Workload.Name), m.vault(caller.Account)[0], subject.ProviderARN)
		}
		asked := make([]gate.Check, len(touched))
		for i, resource := range touched {
			asked[i] = gate.Check{Action: op.Action(), Resource: resource}
		}
		return caller, asked, nil
	}, method)
}
