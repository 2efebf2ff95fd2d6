package agent

import (
	"context"
	"net/http"

	"github.com/coder/websocket"
)

// WebSocketFunc serves one connection. It ends with the function: orderly after
// nil, with status 1011 (internal error) after an error or a panic.
type WebSocketFunc func(ctx context.Context, connection *websocket.Conn) error

// WebSocket sets the function that serves /ws.
func (a *App) WebSocket(fn WebSocketFunc) *App {
	a.websocket = fn
	return a
}

// longestMessage is the runtime's limit of a frame, and a bound for a message.
const longestMessage = 1 << 20

func (a *App) upgrade(w http.ResponseWriter, r *http.Request) {
	ctx := callContext(r)
	connection, err := websocket.Accept(w, r, nil) // refuses pages of other origins
	if err != nil {
		a.log.WarnContext(ctx, "A WebSocket was refused.", "errorMessage", err.Error())
		return
	}
	defer connection.CloseNow()
	connection.SetReadLimit(longestMessage)
	if a.websocket == nil {
		a.log.ErrorContext(ctx, "No WebSocket handler defined.")
		_ = connection.Close(websocket.StatusInternalError, "no WebSocket handler is defined")
		return
	}
	err = contained(func() error { return a.websocket(ctx, connection) })
	switch {
	case err == nil:
		_ = connection.Close(websocket.StatusNormalClosure, "")
	case websocket.CloseStatus(err) != -1 || ctx.Err() != nil:
		a.log.DebugContext(ctx, "The WebSocket was closed by the caller.")
	default:
		a.failed(ctx, "The WebSocket failed.", err)
		_ = connection.Close(websocket.StatusInternalError, "the agent failed")
	}
}
