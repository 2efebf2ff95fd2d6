package broker

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// Provider is a credential provider as stored, its client secret apart.
type Provider struct {
	ID           string // immutable: a re-created name has another one
	Account      string
	Name         string
	ARN          string
	Vendor       string
	CallbackID   string // of the callback path; the same for a re-created name
	Metadata     oauth.Metadata
	DiscoveryURL string // empty where the metadata was given explicitly
	ClientID     string
	AuthMethod   oauth.AuthMethod
	External     *api.SecretReference                   // where the client secret lies; nil: it is sealed here
	OnBehalfOf   *api.OnBehalfOfTokenExchangeConfigType // nil: not configured
	Private      *privateEndpoints                      // nil: none
	Tags         map[string]string
	Version      int64
	Created      time.Time
	Updated      time.Time

	settings     providerSettings
	published    oauth.Metadata // Metadata without what the settings say
	secretSuffix string
	sealedSecret []byte // of a client that signs: its configuration
}

// Origin is what a grant of this provider remembers and is refreshed at.
func (p *Provider) Origin() vault.Origin {
	return vault.Origin{Issuer: p.Metadata.Issuer, TokenEndpoint: p.Metadata.TokenEndpoint, ClientID: p.ClientID}
}

// Title is what a person calls the provider.
func (p *Provider) Title() string {
	if vendor, known := oauth.VendorOf(p.Vendor); known && p.Vendor != vendorCustom && vendor.Title != "" {
		return vendor.Title
	}
	return p.Name
}

func (b *Broker) callbackURL(p *Provider) string {
	return b.options.PublicURL + CallbackPath + p.CallbackID
}

// callbackID is a UUID derived from account and name: registered once at the
// provider, it stays right when the credential provider is updated, or deleted
// and made again. It is no secret; state and cookie are what a callback proves itself with.
func callbackID(account, name string) string {
	sum := sha256.Sum256([]byte("onbehalf oauth2 callback\x00" + account + "\x00" + name))
	id := sum[:16]
	id[6] = id[6]&0x0f | 0x80 // version 8: made in a way of our own
	id[8] = id[8]&0x3f | 0x80
	text := hex.EncodeToString(id)
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}

const providerColumns = `SELECT id, account, name, vendor, callback_id, secret_suffix, client_id, client_secret, auth_method,
	metadata, discovery_url, on_behalf_of, external_secret, private_endpoints, settings, tags, version, created, updated FROM oauth2_providers `

// providerID is all that the way of a valid grant needs to know.
func (b *Broker) providerID(tx *store.Tx, account, name string) (id string, err error) {
	err = tx.QueryRow(`SELECT id FROM oauth2_providers WHERE account = $1 AND name = $2`, account, name).Scan(&id)
	if errors.Is(err, store.ErrNoRows) {
		return "", noProvider(name)
	}
	return id, fault.Wrap(err, "finding a credential provider")
}

func noProvider(name string) error {
	return fault.New(fault.NotFound, "OAuth2 credential provider %s not found.", name)
}

func (b *Broker) providerByName(tx *store.Tx, account, name string) (*Provider, error) {
	return b.scanProvider(tx.QueryRow(providerColumns+`WHERE account = $1 AND name = $2`, account, name), name)
}

func (b *Broker) providerByID(tx *store.Tx, account, id string) (*Provider, error) {
	return b.scanProvider(tx.QueryRow(providerColumns+`WHERE id = $1 AND account = $2`, id, account), "")
}

func (b *Broker) providerByCallback(tx *store.Tx, id string) (*Provider, error) {
	return b.scanProvider(tx.QueryRow(providerColumns+`WHERE callback_id = $1`, id), "")
}

// ProviderByARN finds the provider that a gateway target names; fault.NotFound
// when it is not there, not an OAuth2 one, or of another account or region.
func (b *Broker) ProviderByARN(tx *store.Tx, account, arn string) (Provider, error) {
	name, err := b.nameInARN(account, arn)
	if err != nil {
		return Provider{}, err
	}
	p, err := b.providerByName(tx, account, name)
	if err != nil {
		return Provider{}, err
	}
	return *p, nil
}

// nameInARN reads the name out of what must be the ARN of a provider of this account.
func (b *Broker) nameInARN(account, arn string) (string, error) {
	name := arn[strings.LastIndexByte(arn, '/')+1:]
	if api.Oauth2CredentialProviderARN(b.options.Region, account, name) != arn {
		return "", noProvider(arn)
	}
	return name, nil
}

func (b *Broker) scanProvider(row interface{ Scan(...any) error }, name string) (*Provider, error) {
	var p Provider
	var metadata, onBehalfOf, externalSecret, endpoints, set, tags string
	var created, updated int64
	err := row.Scan(&p.ID, &p.Account, &p.Name, &p.Vendor, &p.CallbackID, &p.secretSuffix, &p.ClientID, &p.sealedSecret, &p.AuthMethod,
		&metadata, &p.DiscoveryURL, &onBehalfOf, &externalSecret, &endpoints, &set, &tags, &p.Version, &created, &updated)
	if errors.Is(err, store.ErrNoRows) {
		if name == "" {
			return nil, fault.New(fault.NotFound, "The OAuth2 credential provider does not exist any more.")
		}
		return nil, noProvider(name)
	}
	if err != nil {
		return nil, fault.Wrap(err, "reading a credential provider")
	}
	if err := errors.Join(json.Unmarshal([]byte(metadata), &p.Metadata), json.Unmarshal([]byte(tags), &p.Tags)); err != nil {
		return nil, fault.Wrap(err, "decoding a credential provider")
	}
	if onBehalfOf != "" {
		p.OnBehalfOf = &api.OnBehalfOfTokenExchangeConfigType{}
		if err := json.Unmarshal([]byte(onBehalfOf), p.OnBehalfOf); err != nil {
			return nil, fault.Wrap(err, "decoding a credential provider")
		}
	}
	if p.External, err = decodeReference(externalSecret); err != nil {
		return nil, err
	}
	if p.Private, err = decodeEndpoints(endpoints); err != nil {
		return nil, err
	}
	p.published = p.Metadata
	settings, err := decodeSettings(set)
	if err != nil {
		return nil, err
	}
	settings.apply(&p)
	p.ARN = api.Oauth2CredentialProviderARN(b.options.Region, p.Account, p.Name)
	p.Created, p.Updated = store.Time(created), store.Time(updated)
	return &p, nil
}

// secretSuffix is the tail that Secrets Manager gives an ARN: six letters that
// say nothing, and that clients expect to stay.
func newSecretSuffix() string { return rand.Text()[:6] }

// insertProvider writes a new row; fault.Conflict when the name is taken.
func (b *Broker) insertProvider(tx *store.Tx, p *Provider) error {
	metadata, endpoints, tags, err := encodeProvider(p)
	if err != nil {
		return err
	}
	added, err := tx.Exec(`INSERT INTO oauth2_providers (id, account, name, vendor, callback_id, secret_suffix, issuer, token_endpoint, client_id, client_secret,
			auth_method, metadata, discovery_url, tags, version, created, updated, on_behalf_of, external_secret, private_endpoints)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $17, $18, $19) ON CONFLICT DO NOTHING`,
		p.ID, p.Account, p.Name, p.Vendor, p.CallbackID, p.secretSuffix, p.Metadata.Issuer, p.Metadata.TokenEndpoint, p.ClientID, p.sealedSecret,
		p.AuthMethod, metadata, p.DiscoveryURL, tags, p.Version, store.Micros(tx.Now), encodeOnBehalfOf(p), encodeReference(p.External), endpoints)
	if err != nil {
		return fault.Wrap(err, "storing a credential provider")
	}
	if added == 0 {
		return fault.New(fault.Conflict, "Credential provider with name %s already exists.", p.Name)
	}
	return b.withinQuota(tx, "oauth2_providers", "Oauth2", p.Account)
}

// mostProviders is how many providers of a kind an account may have. AWS's 50
// are soon used up by what tests leave behind; this is a fence against a loop that creates.
const mostProviders = 10_000

// withinQuota refuses the row that was one too many. Two that are added at the
// same time may both pass: it is a fence, not a price.
func (b *Broker) withinQuota(tx *store.Tx, table, kind, account string) error {
	limit := b.options.ProviderLimit
	if limit == 0 {
		limit = mostProviders
	}
	var n int
	if err := tx.QueryRow(`SELECT COUNT(*) FROM `+table+` WHERE account = $1`, account).Scan(&n); err != nil {
		return fault.Wrap(err, "counting credential providers")
	}
	if n > limit {
		return fault.New(fault.QuotaExceeded, "The number of agent identity %s credential providers in this account has reached its limit", kind)
	}
	return nil
}

func (b *Broker) updateProvider(tx *store.Tx, p *Provider) error {
	metadata, endpoints, _, err := encodeProvider(p)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE oauth2_providers SET vendor = $1, issuer = $2, token_endpoint = $3, client_id = $4, client_secret = $5,
			auth_method = $6, metadata = $7, discovery_url = $8, version = $9, updated = $10, on_behalf_of = $11,
			external_secret = $12, private_endpoints = $13 WHERE id = $14 AND account = $15`,
		p.Vendor, p.Metadata.Issuer, p.Metadata.TokenEndpoint, p.ClientID, p.sealedSecret,
		p.AuthMethod, metadata, p.DiscoveryURL, p.Version, store.Micros(p.Updated), encodeOnBehalfOf(p), encodeReference(p.External), endpoints, p.ID, p.Account)
	return fault.Wrap(err, "updating a credential provider")
}

func encodeOnBehalfOf(p *Provider) string {
	if p.OnBehalfOf == nil {
		return ""
	}
	return string(p.OnBehalfOf.AppendJSON(nil))
}

func encodeProvider(p *Provider) (metadata, endpoints, tags string, err error) {
	encoded, err := json.Marshal(p.Metadata)
	if err != nil {
		return "", "", "", fault.Wrap(err, "encoding metadata")
	}
	if endpoints, err = encodeEndpoints(p.Private); err != nil {
		return "", "", "", err
	}
	list, err := json.Marshal(p.Tags)
	return string(encoded), endpoints, string(list), fault.Wrap(err, "encoding tags")
}
