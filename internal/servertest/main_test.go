package servertest_test

import (
	"os"
	"testing"

	"github.com/onbehalf/onbehalf/internal/server"
)

func TestMain(m *testing.M) {
	server.Init()
	if data := os.Getenv(platformVariable); data != "" {
		platform(data)
		return
	}
	os.Exit(m.Run())
}
