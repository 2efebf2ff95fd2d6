-- broker: how often an attempt's request was pushed to a provider that requires
-- that (RFC 9126). A person who goes back presses again; a program that presses
-- without end is stopped.

ALTER TABLE authorization_attempts ADD COLUMN pushes BIGINT NOT NULL DEFAULT 0;
