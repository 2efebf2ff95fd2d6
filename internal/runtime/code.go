package runtime

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// AWS's limits of code.
const (
	maxArchive  = 250 << 20
	maxUnpacked = 750 << 20
	maxEntries  = 100_000
	partSize    = 1 << 20 // of an archive in the database
)

// codePrefix is how an archive is named in codeConfiguration.code.s3: in a bucket
// of the account, by what is in it.
const codePrefix = "sha256/"

func bucket(account string) string { return "onbehalf-code-" + account }

// PutCode keeps an archive for the account and says how codeConfiguration names it.
// It is read to its end first: what broke off, is too long or is no archive leaves nothing.
func (s *Service) PutCode(ctx context.Context, account string, from io.Reader) (bucketName, prefix string, err error) {
	file, err := os.CreateTemp(s.options.Folder, "upload-")
	if err != nil {
		return "", "", fault.Wrap(err, "spooling an archive")
	}
	defer func() {
		_ = file.Close()
		_ = os.Remove(file.Name())
	}()
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, hash), io.LimitReader(from, maxArchive+1))
	switch {
	case err != nil:
		return "", "", fault.New(fault.Invalid, "The archive did not arrive whole.").Because(err)
	case size > maxArchive:
		return "", "", fault.New(fault.Invalid, "The archive is larger than %d MB.", maxArchive>>20)
	}
	if _, err := checkArchive(file, size); err != nil {
		return "", "", err
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	if err := s.storeCode(ctx, account, sum, file, size); err != nil {
		return "", "", err
	}
	return bucket(account), codePrefix + sum + ".zip", nil
}

// storeCode writes an archive in parts, a transaction each, so that a large one
// keeps nobody waiting; the row that says it is there comes last.
func (s *Service) storeCode(ctx context.Context, account, sum string, file io.ReaderAt, size int64) error {
	known := false
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		changed, err := tx.Exec("UPDATE agent_code SET created = $1 WHERE account = $2 AND sha256 = $3 AND size = $4", store.Micros(tx.Now), account, sum, size)
		if known = changed == 1; known || err != nil {
			return err
		}
		// Its parts must not outlive a platform that ends in their midst: size 0 is not there yet.
		_, err = tx.Exec("INSERT INTO agent_code (account, sha256, size, created) VALUES ($1, $2, 0, $3) ON CONFLICT (account, sha256) DO UPDATE SET created = excluded.created",
			account, sum, store.Micros(tx.Now))
		return err
	})
	if err != nil || known {
		return fault.Wrap(err, "storing code")
	}
	for part := int64(0); part*partSize < size; part++ {
		content := make([]byte, min(partSize, size-part*partSize))
		if _, err := file.ReadAt(content, part*partSize); err != nil {
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

// runnable says why a version cannot be run here; "" where it can.
func (s *Service) runnable(tx *store.Tx, v *versionRow) (why string, err error) {
	if _, err := s.options.Driver(); err != nil {
		return err.Error(), nil
	}
	c := v.settings.AgentRuntimeArtifact.CodeConfiguration
	if c == nil {
		return "This server runs no containers yet: give codeConfiguration, with the code as PutAgentCode keeps it.", nil
	}
	sum, ok := codeOf(v.account, c)
	if !ok {
		return fmt.Sprintf("The code is not in this server: codeConfiguration.code.s3 must name what PutAgentCode answered, a bucket %s and a prefix %s….", bucket(v.account), codePrefix), nil
	}
	var size int64
	err = tx.QueryRow("SELECT size FROM agent_code WHERE account = $1 AND sha256 = $2", v.account, sum).Scan(&size)
	if errors.Is(err, store.ErrNoRows) || err == nil && size == 0 {
		return "There is no code " + sum + ": put it first (PutAgentCode).", nil
	}
	if err != nil {
		return "", fault.Wrap(err, "looking for code")
	}
	v.code = sum
	_, err = interpreter(c)
	var missing *missingInterpreter
	if errors.As(err, &missing) {
		return missing.Error(), nil
	}
	return "", err
}

// codeOf takes the sum out of a location.
func codeOf(account string, c *api.CodeConfiguration) (sum string, ok bool) {
	if c.Code == nil || c.Code.S3 == nil || c.Code.S3.Bucket != bucket(account) {
		return "", false
	}
	sum, ok = strings.CutPrefix(c.Code.S3.Prefix, codePrefix)
	sum, zipped := strings.CutSuffix(sum, ".zip")
	if raw, err := hex.DecodeString(sum); !ok || !zipped || err != nil || len(raw) != sha256.Size {
		return "", false
	}
	return sum, true
}

// checkArchive refuses what cannot be unpacked to plain files below one folder.
func checkArchive(file io.ReaderAt, size int64) (*zip.Reader, error) {
	archive, err := zip.NewReader(file, size)
	if err != nil {
		return nil, fault.New(fault.Invalid, "The code is no ZIP archive.").Because(err)
	}
	if len(archive.File) == 0 || len(archive.File) > maxEntries {
		return nil, fault.New(fault.Invalid, "The archive has %d entries; 1 to %d can be.", len(archive.File), maxEntries)
	}
	var sum uint64
	for _, f := range archive.File {
		name := strings.TrimSuffix(f.Name, "/")
		if !fs.ValidPath(name) || strings.Contains(name, "\\") || name == "." {
			return nil, fault.New(fault.Invalid, "The archive has an entry whose name leads out of its folder.")
		}
		if mode := f.Mode(); !mode.IsRegular() && !mode.IsDir() {
			return nil, fault.New(fault.Invalid, "The archive has an entry that is neither file nor folder: %s.", name)
		}
		if sum += f.UncompressedSize64; sum > maxUnpacked {
			return nil, fault.New(fault.Invalid, "The archive is larger than %d MB when it is unpacked.", maxUnpacked>>20)
		}
	}
	return archive, nil
}

// code is the folder with a version's code, unpacked when it is first needed on this machine.
func (s *Service) code(ctx context.Context, account, sum string) (string, error) {
	folder := filepath.Join(s.options.Folder, "code", account+"-"+sum)
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	made, err, _ := s.unpacking.Do(folder, func() (any, error) {
		if _, err := os.Stat(folder); err == nil {
			return folder, nil
		}
		return folder, s.unpack(context.WithoutCancel(ctx), account, sum, folder)
	})
	if err != nil {
		return "", fault.Wrap(err, "unpacking code")
	}
	return made.(string), nil
}

// unpack fetches an archive and unpacks it beside its place; the renaming makes it whole at once.
func (s *Service) unpack(ctx context.Context, account, sum, folder string) error {
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(s.options.Folder, "archive-")
	if err != nil {
		return err
	}
	defer func() {
		_ = file.Close()
		_ = os.Remove(file.Name())
	}()
	size, err := s.fetch(ctx, account, sum, file)
	if err != nil {
		return err
	}
	archive, err := checkArchive(file, size)
	if err != nil {
		return err
	}
	half, err := os.MkdirTemp(filepath.Dir(folder), "half-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(half)
	if err := os.Chmod(half, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(half)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(maxUnpacked)
	for _, f := range archive.File {
		if left, err = extract(root, f, left); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return os.Rename(half, folder)
}

func (s *Service) fetch(ctx context.Context, account, sum string, to io.Writer) (size int64, err error) {
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
			return 0, err
		}
		if _, err := io.MultiWriter(to, hash).Write(content); err != nil {
			return 0, err
		}
		size += int64(len(content))
	}
	if hex.EncodeToString(hash.Sum(nil)) != sum {
		return 0, fmt.Errorf("the code %s in the database is not whole", sum)
	}
	return size, nil
}

// extract writes one entry, readable by every agent and writable by none.
func extract(root *os.Root, f *zip.File, left int64) (int64, error) {
	name := filepath.FromSlash(strings.TrimSuffix(f.Name, "/"))
	if f.Mode().IsDir() {
		return left, root.MkdirAll(name, 0o755)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return left, err
	}
	mode := fs.FileMode(0o644)
	if f.Mode()&0o111 != 0 {
		mode = 0o755
	}
	in, err := f.Open()
	if err != nil {
		return left, err
	}
	defer in.Close()
	out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return left, err
	}
	// What the directory says of a size need not be so.
	n, err := io.Copy(out, io.LimitReader(in, left+1))
	if err := errors.Join(err, out.Chmod(mode), out.Close()); err != nil {
		return left, err
	}
	if n > left {
		return left, fault.New(fault.Invalid, "The archive is larger than %d MB when it is unpacked.", maxUnpacked>>20)
	}
	return left - n, nil
}
