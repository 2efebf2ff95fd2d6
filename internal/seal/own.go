package seal

// Own are this room's columns: data keys are wrapped, not sealed.
var Own = []Table{{Name: "data_keys", Clear: map[string]string{"wrapped": "wrapped by the key-encryption key"}}}
