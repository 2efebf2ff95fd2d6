package main

import "strings"

func writeOperations(w *writer, u *unit) {
	if !u.own || len(u.service.Operations) == 0 {
		return
	}
	w.line("// The operations of the %s model.", u.name)
	w.line("var (")
	for _, name := range sorted(u.service.Operations) {
		op := u.service.Operations[name]
		input, output := w.world.names[u.service][op.Input.Shape], w.world.names[u.service][op.Output.Shape]
		w.line("// %s is %s %s.", name, op.HTTP.Method, op.HTTP.RequestUri)
		w.line("%s = Operation[%s, %s]{&Info{", name, input, output)
		w.line("Name: %q, Service: %q, Method: %q, Path: %q, Status: %d,", name, u.name, op.HTTP.Method, op.HTTP.RequestUri, op.HTTP.ResponseCode)
		if w.hasClientToken(u.service, op) {
			w.line("ClientToken: true,")
		}
		if op.ReadOnly {
			w.line("ReadOnly: true,")
		}
		var errors []string
		for _, e := range op.Errors {
			errors = append(errors, e.Shape)
		}
		w.line("Errors: []string{\"%s\"},", strings.Join(errors, `", "`))
		w.line("}}")
	}
	w.line(")\n")
}

func (w *writer) hasClientToken(s *service, op *operation) bool {
	r := s.of(&op.Input).Members["clientToken"]
	return r != nil && r.IdempotencyToken
}

// writeOperationTable writes the list of all operations and the exceptions' statuses.
func writeOperationTable(w *writer) {
	w.line("// Operations is every operation of every model.")
	w.line("var Operations = []*Info{")
	statuses := map[string]int{}
	for _, s := range w.world.services {
		for _, name := range sorted(s.Operations) {
			w.line("%s.Info,", name)
		}
		for name, found := range s.Shapes {
			if found.Exception {
				statuses[name] = found.Error.HTTPStatusCode
			}
		}
	}
	w.line("}\n")
	w.line("// ExceptionStatus is the HTTP status of each modelled exception.")
	w.line("var ExceptionStatus = map[string]int{")
	for _, name := range sorted(statuses) {
		w.line("%q: %d,", name, statuses[name])
	}
	w.line("}")
}
