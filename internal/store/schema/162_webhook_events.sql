-- notify: events that a webhook is to be told of. A row is written in the
-- transaction of what it tells, and goes when the receiver has taken it, or after a day.
CREATE TABLE webhook_events (
	id       TEXT PRIMARY KEY, -- begins with the time: events are delivered in this order
	created  BIGINT NOT NULL,
	attempts BIGINT NOT NULL,
	body     TEXT NOT NULL     -- JSON, as it is signed and sent; no secret
);
