/* A plugin for strongSwan's charon, for compare.sh: the stand-in for the kernel's IPsec that its own load
 * tester has (load_tester_ipsec.c of its source), and nothing else of that. */
#include <daemon.h>
#include "load_tester_ipsec.h"

METHOD(plugin_t, get_name, char*, plugin_t *this)
{
	return "fake-kernel";
}

METHOD(plugin_t, get_features, int, plugin_t *this, plugin_feature_t *features[])
{
	static plugin_feature_t ours[] = {
		PLUGIN_CALLBACK(kernel_ipsec_register, load_tester_ipsec_create),
			PLUGIN_PROVIDE(CUSTOM, "kernel-ipsec"),
	};

	*features = ours;
	return countof(ours);
}

METHOD(plugin_t, destroy, void, plugin_t *this)
{
	free(this);
}

plugin_t *fake_kernel_plugin_create()
{
	plugin_t *this;

	INIT(this,
		.get_name = _get_name,
		.get_features = _get_features,
		.destroy = _destroy,
	);
	return this;
}
