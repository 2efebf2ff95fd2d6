package server

import (
	"context"
	"io"
)

// PutCode keeps code as the operation PutAgentCode does.
func (s *Server) PutCode(ctx context.Context, account string, from io.Reader) (bucket, prefix string, err error) {
	return s.agents.PutCode(ctx, account, from)
}
