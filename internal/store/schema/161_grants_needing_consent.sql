-- vault: for the one count that operators watch.
CREATE INDEX grants_needing_consent ON grants (account) WHERE state = 'needs-consent';
