// Package sigv4 checks AWS Signature Version 4 on incoming requests and makes
// it on outgoing ones.
//
//	request ── Parse ──▶ Header ── CheckScope, CheckTime, CheckHeaders ──▶ (read the body) ── Verify ──▶ trusted
//	URL     ── ParsePresigned ──▶ Header ── the same, with sha256("") for a body ──▶ trusted
//	request ── Sign ──▶ request with an Authorization header
//
// The four steps before the body cost no more than a look at the headers, so
// that a caller who cannot be right is refused before his bytes are read.
// Where a key is, whose it is and whether it still counts is auth's business.
//
// Both directions build the canonical request with the same code, from the raw
// request target as it arrived: the path is escaped a second time, as every
// service but S3 has it, and never cleaned, so what was signed is what the
// router sees.
//
// Replay: as at AWS, a signed request may be sent again within the five minutes
// of MaxSkew, and a presigned URL until it expires. Client tokens, not signatures, make creates happen once.
//
// Invariant: after Verify, method, host, path, query, body and every header
// that means something to this server are those that the key's owner signed.
package sigv4

import (
	"time"

	"github.com/onbehalf/onbehalf/internal/secret"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeLayout = "20060102T150405Z"
	dateLayout = "20060102"

	// MaxSkew is how far a signer's clock may be from ours, either way. It is
	// AWS's figure, and SDKs expect it: they read the "5 min." of the refusal.
	MaxSkew = 5 * time.Minute
)

// Names of the headers that are part of the protocol, in the form net/http gives them.
const (
	headerAuthorization = "Authorization"
	headerDate          = "X-Amz-Date"
	headerContentHash   = "X-Amz-Content-Sha256"
	headerToken         = "X-Amz-Security-Token"
)

// Credential is the scope a signature was made for: whose key, which UTC day,
// which region and which service.
type Credential struct {
	AccessKeyID string
	Date        string // YYYYMMDD
	Region      string
	Service     string
}

// Header is a request's claim to be signed, taken apart and not yet believed.
type Header struct {
	Credential
	SignedHeaders []string    // lower case, sorted, as sent
	Signature     string      // 64 lower-case hexadecimal digits
	Time          time.Time   // of X-Amz-Date, or of Date where there is no X-Amz-Date
	SessionToken  secret.Text // X-Amz-Security-Token; empty for long-lived keys

	presigned      bool          // the signature is in the query
	life           time.Duration // of a presigned URL
	headersChecked bool
}
