package servertest_test

import (
	"context"
	"fmt"
	"io"
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

// platformVariable makes this program a platform on the folder that it names.
const platformVariable = "ONBEHALF_TEST_PLATFORM"

// platform serves until it is killed, and says when it does.
func platform(data string) {
	c := server.Config{Addr: "127.0.0.1:0", Data: data, LogLevel: "error"}
	s, err := server.Start(context.Background(), c, server.Logger(c, io.Discard))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ready", s.URL())
	_ = s.Wait(context.Background())
}
