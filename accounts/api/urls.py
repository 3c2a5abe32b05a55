from rest_framework.routers import SimpleRouter

from accounts.api.views import AccountViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("accounts", AccountViewSet, basename="account")

urlpatterns = router.urls
