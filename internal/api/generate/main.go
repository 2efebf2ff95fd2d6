// Command generate writes the *_gen.go files of package api, and of package
// client, from the service models in ../model.
//
//	model/*.json ─ load ─▶ shapes, operations ─ name ─▶ Go names ─┬─▶ types     structs and enums
//	                                                            ├─▶ encode    AppendJSON
//	                                                            ├─▶ decode    from JSON, with what is missing
//	                                                            ├─▶ validate  constraints
//	                                                            ├─▶ bind      path, query, headers, payloads
//	                                                            └─▶ operations
//	model/onbehalf.json ────────────────────────────────────────▶ package client: operations, types, errors
//
// Invariant: the output depends on the models alone. Running it twice gives the
// same bytes, and a test fails when the files in the tree are not that output.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	models := flag.String("model", "model", "folder with the service models")
	out := flag.String("out", ".", "folder that gets the generated files of package api")
	client := flag.String("client", "../../client", "folder that gets those of package client")
	flag.Parse()
	files, err := generate(*models)
	if err == nil {
		err = errors.Join(write(*out, files.api), write(*client, files.client))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// output is files by name, of each package.
type output struct{ api, client map[string][]byte }

// generate turns the models of a folder into files.
func generate(folder string) (o output, err error) {
	services, err := load(folder)
	if err != nil {
		return o, err
	}
	world, err := settle(services)
	if err != nil {
		return o, err
	}
	if o.client, err = clientFiles(services); err != nil {
		return o, err
	}
	o.api, err = apiFiles(world)
	return o, err
}

func apiFiles(world *world) (files map[string][]byte, err error) {
	files = map[string][]byte{}
	for _, u := range world.units() {
		for _, part := range []struct {
			name  string
			write func(*writer, *unit)
		}{
			{"enums", writeEnums}, {"types", writeTypes}, {"encode", writeEncoders}, {"decode", writeDecoders}, {"validate", writeValidators},
			{"bind", writeBindings}, {"operations", writeOperations},
		} {
			w := &writer{world: world}
			part.write(w, u)
			if w.body.Len() == 0 {
				continue
			}
			name := u.name + "_" + part.name + "_gen.go"
			if files[name], err = w.file(); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	w := &writer{world: world}
	writeOperationTable(w)
	if files["operations_gen.go"], err = w.file(); err != nil {
		return nil, fmt.Errorf("operations_gen.go: %w", err)
	}
	return files, nil
}

// write replaces the generated files of a folder, removing those that no longer are.
func write(folder string, files map[string][]byte) error {
	stale, err := filepath.Glob(filepath.Join(folder, "*_gen.go"))
	if err != nil {
		return err
	}
	for _, path := range stale {
		if _, kept := files[filepath.Base(path)]; !kept {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
