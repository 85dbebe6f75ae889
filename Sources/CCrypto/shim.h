#pragma once
// The functions on plain contexts are deprecated, but only their state can be kept and taken up again.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
