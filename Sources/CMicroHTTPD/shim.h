#pragma once
// The variadic functions of libmicrohttpd with fixed arguments, and the constants that Swift does not import.
#include <microhttpd.h>
#include <stdint.h>

struct forebay_mhd_options {
    unsigned int connection_limit;
    unsigned int connections_per_address;
    unsigned int idle_timeout_seconds;
    size_t connection_memory_bytes;
    size_t thread_stack_bytes;
    int listen_socket;
};

static inline struct MHD_Daemon *forebay_mhd_start(
    unsigned int flags, const struct forebay_mhd_options *o, MHD_AccessHandlerCallback handler,
    MHD_RequestCompletedCallback completed, void *(*uri)(void *, const char *, struct MHD_Connection *), void *context)
{
    return MHD_start_daemon(
        flags, 0, NULL, NULL, handler, context,
        MHD_OPTION_LISTEN_SOCKET, (MHD_socket)o->listen_socket,
        MHD_OPTION_NOTIFY_COMPLETED, completed, context,
        MHD_OPTION_URI_LOG_CALLBACK, uri, context,
        MHD_OPTION_CONNECTION_LIMIT, o->connection_limit,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, o->connections_per_address,
        MHD_OPTION_CONNECTION_TIMEOUT, o->idle_timeout_seconds,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, o->connection_memory_bytes,
        MHD_OPTION_THREAD_STACK_SIZE, o->thread_stack_bytes,
        MHD_OPTION_END);
}

static inline const struct sockaddr *forebay_mhd_client_address(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info ? info->client_addr : NULL;
}

static inline unsigned int forebay_mhd_connections(struct MHD_Daemon *daemon)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    return info ? info->num_connections : 0;
}

static const uint64_t forebay_mhd_size_unknown = MHD_SIZE_UNKNOWN;
static const ssize_t forebay_mhd_end_of_stream = MHD_CONTENT_READER_END_OF_STREAM;
static const ssize_t forebay_mhd_end_with_error = MHD_CONTENT_READER_END_WITH_ERROR;
static const unsigned int forebay_mhd_thread_per_connection =
    MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL | MHD_USE_ITC;
