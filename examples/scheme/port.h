/* port.h - for those that hold a port's lock. */
#ifndef SCHEME_PORT_H_
#define SCHEME_PORT_H_

#include "scheme.h"

int32_t port_peek_raw(struct port *p);
int32_t port_get_raw(struct port *p);
void port_put_raw(struct port *p, uint32_t ch);
void port_puts_raw(struct port *p, const char *s);
V open_bytes(V bytes, bool input);
V port_contents(V port);
bool is_terminal(int fd);

#endif
