package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/store"
)

// PathCode is where an agent's code is put. Its body is the archive itself, and
// far longer than those of other operations: the door is here and not wire's.
const PathCode = "/onbehalf/PutAgentCode"

const (
	actionPutCode = "onbehalf:PutAgentCode"

	// partSize is that of an archive's parts in the database. Each has a
	// transaction of its own, so that SQLite's one writer is never held for long.
	partSize = 1 << 20

	// maxCode is how many bytes an account's archives may have together: forty of the largest.
	maxCode = 10 << 30

	// codePrefix is how an archive is named in codeConfiguration.code.s3: in a
	// bucket of the account, by what is in it.
	codePrefix = "sha256/"
)

func bucket(account string) string { return "onbehalf-code-" + account }

// Code serves PutAgentCode:
//
//	who (signature over the spooled body) ─▶ may they ─▶ is it an archive, and does it unpack? ─▶ rows
//
// The same archive is kept once for an account, whoever puts it.
func (s *Service) Code() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := s.serveCode(w, r)
		if err != nil {
			s.options.Refuse(w, r, api.PutAgentCode.Info, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(out.AppendJSON(nil))
	})
}

func (s *Service) serveCode(w http.ResponseWriter, r *http.Request) (out *api.PutAgentCodeResponse, err error) {
	caller, body, err := s.gate.Spooled(w, r, api.AgentCodeLimit)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	checks := []gate.Check{{Action: actionPutCode, Resource: s.arn(caller.Account, "*")}}
	err = s.gate.Do(r.Context(), caller, checks, func(ctx context.Context) error {
		sum := body.SHA256()
		gate.Detail(ctx, "sha256", hex.EncodeToString(sum[:]))
		gate.Detail(ctx, "size", strconv.FormatInt(body.Size(), 10))
		out, err = s.keepCode(ctx, caller.Account, body, body.Size(), sum)
		return err
	})
	return out, err
}

// PutCode keeps an archive for the account, and says how codeConfiguration names
// it: what the operation does, for who has no request.
func (s *Service) PutCode(ctx context.Context, account string, from io.Reader) (bucketName, prefix string, err error) {
	file, err := os.CreateTemp("", "onbehalf-code-")
	if err != nil {
		return "", "", fault.Wrap(err, "spooling an archive")
	}
	defer file.Close()
	if err := os.Remove(file.Name()); err != nil {
		return "", "", fault.Wrap(err, "spooling an archive")
	}
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, hash), io.LimitReader(from, api.AgentCodeLimit+1))
	switch {
	case err != nil:
		return "", "", fault.Wrap(err, "spooling an archive")
	case size > api.AgentCodeLimit:
		return "", "", fault.New(fault.Invalid, "The archive is larger than %d MB.", api.AgentCodeLimit>>20)
	}
	out, err := s.keepCode(ctx, account, file, size, [sha256.Size]byte(hash.Sum(nil)))
	if err != nil {
		return "", "", err
	}
	return out.Bucket, out.Prefix, nil
}

// keepCode unpacks an archive, and keeps what could be unpacked.
func (s *Service) keepCode(ctx context.Context, account string, archive io.ReaderAt, size int64, sum [sha256.Size]byte) (*api.PutAgentCodeResponse, error) {
	name := hex.EncodeToString(sum[:])
	if err := s.roomForCode(ctx, account, name, size); err != nil {
		return nil, err
	}
	// Also when the caller has left: who unpacks reads the body, which is gone after this.
	if err := s.unpacked(context.WithoutCancel(ctx), account, name, func(context.Context) (io.ReaderAt, int64, func(), error) { return archive, size, func() {}, nil }); err != nil {
		return nil, err
	}
	if err := s.storeCode(ctx, account, name, archive, size); err != nil {
		return nil, err
	}
	return &api.PutAgentCodeResponse{Bucket: bucket(account), Prefix: codePrefix + name + ".zip", Sha256: name, Size: size}, nil
}

// roomForCode refuses an archive that would make the account's too many: who may
// put code could otherwise fill the disk of all.
func (s *Service) roomForCode(ctx context.Context, account, sum string, size int64) error {
	var others int64
	err := s.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow("SELECT CAST(coalesce(sum(size), 0) AS BIGINT) FROM agent_code WHERE account = $1 AND sha256 <> $2", account, sum).Scan(&others)
	})
	if err == nil && others+size > maxCode {
		return fault.New(fault.QuotaExceeded, "The archives of the account's agents take %d MB, and may take %d. Delete runtimes or versions that nobody needs; what none names goes after a day.", others>>20, int64(maxCode)>>20)
	}
	return fault.Wrap(err, "measuring code")
}

// storeCode writes an archive's parts, and then that it is there: a row of size 0
// is one whose parts are still coming, or going.
func (s *Service) storeCode(ctx context.Context, account, sum string, archive io.ReaderAt, size int64) error {
	known := false
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		// That it was put again gives it another day, see forgetCode.
		changed, err := tx.Exec("UPDATE agent_code SET created = $1 WHERE account = $2 AND sha256 = $3 AND size = $4", store.Micros(tx.Now), account, sum, size)
		if known = changed == 1; known || err != nil {
			return err
		}
		_, err = tx.Exec("INSERT INTO agent_code (account, sha256, size, created) VALUES ($1, $2, 0, $3) ON CONFLICT (account, sha256) DO UPDATE SET created = excluded.created",
			account, sum, store.Micros(tx.Now))
		return err
	})
	if err != nil || known {
		return fault.Wrap(err, "storing code")
	}
	buffer := make([]byte, min(partSize, size))
	for part := int64(0); part*partSize < size; part++ {
		content := buffer[:min(partSize, size-part*partSize)]
		if n, err := archive.ReadAt(content, part*partSize); n < len(content) {
			return fault.Wrap(err, "reading an archive")
		}
		err := s.db.Update(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec("INSERT INTO agent_code_parts (account, sha256, part, content) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", account, sum, part, content)
			return err
		})
		if err != nil {
			return fault.Wrap(err, "storing code")
		}
	}
	return fault.Wrap(s.db.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE agent_code SET size = $1 WHERE account = $2 AND sha256 = $3", size, account, sum)
		return err
	}), "storing code")
}

// holdsCode reports whether the account has an archive, whole.
func holdsCode(tx *store.Tx, account, sum string) (bool, error) {
	var size int64
	err := tx.QueryRow("SELECT size FROM agent_code WHERE account = $1 AND sha256 = $2", account, sum).Scan(&size)
	if errors.Is(err, store.ErrNoRows) {
		return false, nil
	}
	return size > 0, fault.Wrap(err, "looking for code")
}

// fetchCode takes an archive out of the database into a file without a name.
func (s *Service) fetchCode(ctx context.Context, account, sum string) (archive io.ReaderAt, size int64, done func(), err error) {
	file, err := os.CreateTemp(s.options.Folder, "archive-")
	if err != nil {
		return nil, 0, nil, err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	if err := os.Remove(file.Name()); err != nil {
		return nil, 0, nil, err
	}
	hash := sha256.New()
	for part := int64(0); ; part++ {
		var content []byte
		err := s.db.View(ctx, func(tx *store.Tx) error {
			return tx.QueryRow("SELECT content FROM agent_code_parts WHERE account = $1 AND sha256 = $2 AND part = $3", account, sum, part).Scan(&content)
		})
		if errors.Is(err, store.ErrNoRows) {
			break
		}
		if err != nil {
			return nil, 0, nil, err
		}
		if _, err := io.MultiWriter(file, hash).Write(content); err != nil {
			return nil, 0, nil, noRoom(err)
		}
		size += int64(len(content))
	}
	if hex.EncodeToString(hash.Sum(nil)) != sum {
		return nil, 0, nil, fault.New(fault.RuntimeClient, "The code %s is not here, or not whole. Put it again (PutAgentCode), and update the agent runtime.", sum)
	}
	return file, size, func() { _ = file.Close() }, nil
}

// codeSum takes the sum out of a location; not ok where it is none of this server's.
func codeSum(account string, c *api.CodeConfiguration) (sum string, ok bool) {
	if c.Code == nil || c.Code.S3 == nil || c.Code.S3.Bucket != bucket(account) {
		return "", false
	}
	sum, ok = strings.CutPrefix(c.Code.S3.Prefix, codePrefix)
	sum, zipped := strings.CutSuffix(sum, ".zip")
	if raw, err := hex.DecodeString(sum); !ok || !zipped || err != nil || len(raw) != sha256.Size || hex.EncodeToString(raw) != sum {
		return "", false
	}
	return sum, true
}
