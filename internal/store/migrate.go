package store

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// The schema files, one per room, are one document: read them in order to know
// every table. Their types are TEXT, BIGINT, SMALLINT and BYTES; BIGKEY is a
// BIGINT primary key by which the rows themselves are laid out.
//
//go:embed schema/*.sql
var schemaFolder embed.FS

type schemaFile struct{ name, text string }

// schemaFiles lists the embedded files in name order.
func schemaFiles() []schemaFile {
	names, err := fs.Glob(schemaFolder, "schema/*.sql")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	files := make([]schemaFile, len(names))
	for i, name := range names {
		text, err := schemaFolder.ReadFile(name)
		if err != nil {
			panic(err) // it was listed a moment ago
		}
		files[i] = schemaFile{path.Base(name), string(text)}
	}
	return files
}

const schemaTable = `CREATE TABLE IF NOT EXISTS onbehalf_schema (
	file     TEXT PRIMARY KEY,
	checksum TEXT NOT NULL,
	applied  BIGINT NOT NULL
)`

// migrate applies the files that the database has not seen, all in one
// transaction: it is the old schema or the new one, never something between.
// Replicas that start together queue for it.
func (db *DB) migrate(ctx context.Context, files []schemaFile) error {
	err := db.update(ctx, migrating, func(tx *Tx) error {
		if _, err := tx.Exec(db.engine.render(schemaTable)); err != nil {
			return err
		}
		applied, err := appliedFiles(tx)
		if err != nil {
			return err
		}
		if err := checkApplied(applied, files); err != nil {
			return err
		}
		_, missing := split(files, func(f schemaFile) bool { return applied[f.name] != "" })
		return db.apply(tx, missing)
	})
	return fault.Wrap(err, "bringing the database's tables up to date")
}

func (db *DB) apply(tx *Tx, files []schemaFile) error {
	for _, file := range files {
		if _, err := tx.Exec(db.engine.render(file.text)); err != nil {
			return fmt.Errorf("schema file %s: %w", file.name, err)
		}
		if _, err := tx.Exec("INSERT INTO onbehalf_schema (file, checksum, applied) VALUES ($1, $2, $3)",
			file.name, file.checksum(), Micros(tx.Now)); err != nil {
			return err
		}
	}
	return nil
}

func appliedFiles(tx *Tx) (map[string]string, error) {
	rows, err := tx.Query("SELECT file, checksum FROM onbehalf_schema")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	applied := make(map[string]string)
	for rows.Next() {
		var file, checksum string
		if err := rows.Scan(&file, &checksum); err != nil {
			return nil, err
		}
		applied[file] = checksum
	}
	return applied, rows.Err()
}

// checkApplied refuses a database that this binary does not understand.
func checkApplied(applied map[string]string, files []schemaFile) error {
	known := make(map[string]string, len(files))
	for _, file := range files {
		known[file.name] = file.checksum()
	}
	for name, checksum := range applied {
		switch known[name] {
		case checksum:
		case "":
			return fault.New(fault.Unavailable, "The database was made by a newer version (it has schema %s, which this version does not know). Start that version, or restore a backup.", name)
		default:
			return fault.New(fault.Unavailable, "The database's schema %s is not the one of this version. Start the version that made it, or restore a backup.", name)
		}
	}
	return nil
}

// checksum is of the statements alone, so that a comment can be mended in a file
// that databases out there have already applied.
func (f schemaFile) checksum() string {
	sum := sha256.Sum256([]byte(strings.Join(strings.Fields(withoutComments(f.text)), " ")))
	return hex.EncodeToString(sum[:])
}

// withoutComments drops what follows -- on a line, outside of quotes.
func withoutComments(sql string) string {
	var out strings.Builder
	quoted := false
	for i := 0; i < len(sql); i++ {
		switch {
		case sql[i] == '\'':
			quoted = !quoted
		case !quoted && strings.HasPrefix(sql[i:], "--"):
			end := strings.IndexByte(sql[i:], '\n')
			if end < 0 {
				return out.String()
			}
			i += end
		}
		out.WriteByte(sql[i])
	}
	return out.String()
}

// replaceWord replaces whole words outside of quotes and comments: the types
// that the engines name differently.
func replaceWord(sql, word, with string) string {
	var out strings.Builder
	sql = withoutComments(sql)
	quoted := false
	for i := 0; i < len(sql); {
		if !quoted && strings.HasPrefix(sql[i:], word) && !wordAt(sql, i-1) && !wordAt(sql, i+len(word)) {
			out.WriteString(with)
			i += len(word)
			continue
		}
		if sql[i] == '\'' {
			quoted = !quoted
		}
		out.WriteByte(sql[i])
		i++
	}
	return out.String()
}

func wordAt(s string, i int) bool {
	if i < 0 || i >= len(s) {
		return false
	}
	c := s[i]
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// render of SQLite: it would take any type name, but only BLOB keeps bytes as they are in comparisons.
// Only INTEGER PRIMARY KEY names the row itself: a BIGINT would get an index beside the table.
func (e *liteEngine) render(schema string) string {
	return replaceWord(replaceWord(schema, "BYTES", "BLOB"), "BIGKEY", "INTEGER PRIMARY KEY")
}

// render of PostgreSQL: text in the C collation sorts by bytes, as SQLite does,
// so that pages of a list are the same on both.
func (e *postgresEngine) render(schema string) string {
	return replaceWord(replaceWord(replaceWord(schema, "BYTES", "BYTEA"), "BIGKEY", "BIGINT PRIMARY KEY"), "TEXT", `TEXT COLLATE "C"`)
}
