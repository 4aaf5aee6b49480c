#include "roles.h"
int stub_main(int argc, char **argv) { (void)argc; (void)argv; return 125; }
