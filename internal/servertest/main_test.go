package servertest_test

import (
	"os"
	"testing"

	"github.com/onbehalf/onbehalf/internal/server"
)

func TestMain(m *testing.M) {
	server.Init()
	os.Exit(m.Run())
}
