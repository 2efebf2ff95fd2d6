package store

// A walk reads a table stretch by stretch in the order in which it lies on disk,
// so that work on all rows touches each page once and no transaction is long:
//
//	for from := int64(0); from < extent; from += tx.Stretch() … WHERE tx.Between(1) …
//
// On SQLite a place is a rowid; on PostgreSQL a block with the rows in it. Rows
// that are added or moved during a walk may be passed over: who needs all of
// them walks again until nothing is found.

// Place is the SQL that names where a row lies, read as text and compared with
// PlaceIs. It names the same row only until somebody changes that row.
func (tx *Tx) Place() string {
	if tx.engine == "postgres" {
		return "CAST(ctid AS TEXT)"
	}
	return "CAST(rowid AS TEXT)"
}

// PlaceIs is the condition that a row lies at the place in that parameter ("$3").
func (tx *Tx) PlaceIs(parameter string) string {
	if tx.engine == "postgres" {
		return "ctid = CAST(CAST(" + parameter + " AS TEXT) AS TID)"
	}
	return "rowid = CAST(" + parameter + " AS INTEGER)"
}

// Stretch is how far one step of a walk goes: some hundred rows, so that whoever
// waits for the one writer of SQLite waits some milliseconds.
func (tx *Tx) Stretch() int64 {
	if tx.engine == "postgres" {
		return 64
	}
	return 250
}

// Extent is where a walk over the table ends, as of now.
func (tx *Tx) Extent(table string) (end int64, err error) {
	query := "SELECT coalesce(max(rowid), -1) + 1 FROM " + table
	if tx.engine == "postgres" {
		query = "SELECT pg_relation_size('" + table + "') / CAST(current_setting('block_size') AS BIGINT)"
	}
	return end, tx.QueryRow(query).Scan(&end)
}

// Between is the condition that a row lies from the place in the first parameter
// up to, and not at, the one in the second.
func (tx *Tx) Between(first, second string) string {
	if tx.engine == "postgres" {
		return "ctid >= CAST('(' || CAST(CAST(" + first + " AS BIGINT) AS TEXT) || ',0)' AS TID) AND ctid < CAST('(' || CAST(CAST(" + second + " AS BIGINT) AS TEXT) || ',0)' AS TID)"
	}
	return "rowid >= CAST(" + first + " AS INTEGER) AND rowid < CAST(" + second + " AS INTEGER)"
}
