//go:build linux && !amd64 && !arm64

package inside

// auditArchitecture is 0 where nobody has tried the filter: there is none then.
const auditArchitecture = 0
