package gateway

import "time"

// SetFreshness shortens how long an endpoint is served without a look at the
// database, so that a test of two replicas need not wait.
func (s *Service) SetFreshness(d time.Duration) { s.shelf.holds = d }
